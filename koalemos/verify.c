/*
 * `koalemos verify DIR`: every byte of every fileset below DIR is read, its checksums compared, and
 * whether it agrees with itself; every manifest is decoded, and what the newest of each partition
 * names must be there. Each thing that is bad is one line on stdout; what is in quarantine, and what
 * no newest manifest knows of (a crash left it, or it is about to be known), are told as well.
 *
 * Exit status: 0 all is well; 1 something is bad; 2 it could not be told.
 */
#include "koalemos/tool.h"

#include "libblock/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos verify DIR [--progress] [--encryption.keys.file FILE]\n"
    "\n"
    "  Reads every byte of every fileset and manifest below DIR: the data folder of a process, or a\n"
    "  folder that is an object store. What is bad is named on stdout.\n"
    "  Exit status: 0 all is well, 1 something is bad, 2 it could not be told.\n"
    "  --progress    says on stderr how far it is (always, where that is a terminal)\n"
    "  --encryption.keys.file FILE, --encryption.keys.command COMMAND    the keys, where DIR is encrypted\n";

struct verify {
    struct tool t;
    uint64_t good, bad, unreadable, unfinished, manifests, strange;
    char   **known; size_t known_count, known_room;    /* "<root> <path>": named by a newest manifest, */
    char   **cared; size_t cared_count, cared_room;    /* "<root> <partition>": that has one */
};

static void remember(char ***names, size_t *count, size_t *room, const char *root, const char *path)
{
    size_t size = strlen(root) + strlen(path) + 2;

    if (*count == *room) {
        *room = *room == 0 ? 64 : *room * 2;
        *names = kl_resize(*names, *room * sizeof **names);
    }
    (*names)[*count] = kl_resize(NULL, size);
    snprintf((*names)[(*count)++], size, "%s %s", root, path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has(char **names, size_t count, const char *root, const char *path)
{
    size_t size = strlen(root) + strlen(path) + 2;
    char  *name = kl_resize(NULL, size);
    bool   found_it;

    snprintf(name, size, "%s %s", root, path);
    found_it = count > 0 && bsearch(&name, names, count, sizeof *names, by_name) != NULL;
    free(name);
    return found_it;
}

/* Failures to read are not failures of what is read. */
static void failed(struct verify *v, const struct blk_found *x, const struct kl_err *err)
{
    const char *in = x->root[0] != '\0' ? x->root : ".";

    if (err->code == KL_ENOENT)                        /* it went meanwhile: not ours to judge */
        return;
    if (err->code == KL_ECORRUPT) {
        v->bad++;
        printf("bad: %s in %s: %s\n", x->path, in, err->text);
    } else {
        v->unreadable++;
        printf("cannot be read: %s in %s: %s\n", x->path, in, err->text);
    }
}

static void check_fileset(struct verify *v, const struct blk_found *x)
{
    struct blk_found_open o = { 0 };
    struct kl_err         err = { 0 };

    if (blk_found_open(v->t.top, x, &o, &err) != KL_OK) {
        failed(v, x, &err);
        return;
    }
    if (blk_fileset_verify(o.f, &err) == KL_OK)
        v->good++;
    else
        failed(v, x, &err);
    blk_found_close(&o);
}

static bool found(const struct verify *v, const char *root, const char *path)
{
    const struct blk_finds *f = &v->t.finds;
    size_t                  low = 0, high = f->count;

    while (low < high) {                               /* sorted by root, kind, path */
        size_t                  mid = low + (high - low) / 2;
        const struct blk_found *x = &f->at[mid];
        int                     c = strcmp(x->root, root);

        if (c == 0)
            c = x->kind != BLK_FOUND_STORED ? (x->kind < BLK_FOUND_STORED ? -1 : 1)
                                            : strcmp(x->path, path);
        if (c == 0)
            return true;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

static void check_manifest(struct verify *v, const struct blk_found *x, bool newest)
{
    struct blk_manifest m = { 0 };
    struct kl_err       err = { 0 };
    char                key[KL_STORE_KEY_MAX + 1], path[BLK_PATH_MAX + 1];
    void               *bytes;
    size_t              size;

    if (blk_found_read(v->t.top, x, &bytes, &size, &err) != KL_OK) {
        failed(v, x, &err);
        return;
    }
    if (blk_manifest_decode(kl_span(bytes, size), &m, &err) == KL_OK) {
        blk_manifest_key(m.partition, m.revision, key);
        if (strcmp(key, x->path) != 0)
            kl_fail(&err, KL_ECORRUPT, "says that it is %s", key);
    }
    free(bytes);
    if (err.code != KL_OK)
        failed(v, x, &err);
    else
        v->manifests++;
    if (newest && err.code == KL_OK) {
        snprintf(path, sizeof path, "%04" PRIu32, m.partition);
        remember(&v->cared, &v->cared_count, &v->cared_room, x->root, path);
        for (uint32_t i = 0; i < m.gone_count; i++)
            remember(&v->known, &v->known_count, &v->known_room, x->root, m.gone[i].path);
    }
    for (uint32_t i = 0; newest && err.code == KL_OK && i < m.fileset_count; i++) {
        blk_fileset_path(&m.filesets[i], path);
        remember(&v->known, &v->known_count, &v->known_room, x->root, path);
        if (m.filesets[i].quarantined)
            printf("in quarantine: %s in %s\n", path, x->root[0] != '\0' ? x->root : ".");
        if (!found(v, x->root, path)) {
            v->bad++;
            printf("missing: %s in %s: %s names it\n", path, x->root[0] != '\0' ? x->root : ".",
                   x->path);
        }
    }
    blk_manifest_deinit(&m);
}

/* The last manifest of its partition: finds are sorted, and revisions have a fixed width. */
static bool is_newest(const struct blk_finds *f, size_t i)
{
    const struct blk_found *x = &f->at[i], *next = i + 1 < f->count ? &f->at[i + 1] : NULL;

    return next == NULL || next->kind != BLK_FOUND_MANIFEST || strcmp(next->root, x->root) != 0 ||
           strncmp(next->path, x->path, strlen("catalogue/0000/")) != 0;
}

/* Stored filesets of a partition whose catalogue is here, but that is not in it. */
static void tell_strange(struct verify *v)
{
    if (v->known_count > 0)
        qsort(v->known, v->known_count, sizeof *v->known, by_name);
    if (v->cared_count > 0)
        qsort(v->cared, v->cared_count, sizeof *v->cared, by_name);
    for (size_t i = 0; i < v->t.finds.count; i++) {
        const struct blk_found *x = &v->t.finds.at[i];
        struct blk_info         info;
        struct kl_err           err;
        char                    partition[16];

        if (x->kind != BLK_FOUND_STORED || blk_fileset_path_parse(x->path, &info, &err) != KL_OK)
            continue;
        snprintf(partition, sizeof partition, "%04" PRIu32, info.partition);
        if (!has(v->cared, v->cared_count, x->root, partition) ||
            has(v->known, v->known_count, x->root, x->path))
            continue;
        v->strange++;
        printf("in no catalogue: %s in %s\n", x->path, x->root[0] != '\0' ? x->root : ".");
    }
    for (size_t i = 0; i < v->known_count; i++)
        free(v->known[i]);
    for (size_t i = 0; i < v->cared_count; i++)
        free(v->cared[i]);
    free(v->known);
    free(v->cared);
}

int koalemos_verify(int argc, char **argv, int first)
{
    struct verify v = { 0 };
    int           status;

    if (!tool_open(&v.t, "koalemos verify", usage, argc, argv, first, false, &status))
        return status;
    for (size_t i = 0; i < v.t.finds.count; i++) {
        const struct blk_found *x = &v.t.finds.at[i];

        if (x->kind == BLK_FOUND_UNFINISHED) {
            v.unfinished++;
            printf("unfinished, and ignored by all: %s in %s\n", x->path,
                   x->root[0] != '\0' ? x->root : ".");
        } else if (x->kind == BLK_FOUND_MANIFEST) {
            check_manifest(&v, x, is_newest(&v.t.finds, i));
        } else {
            check_fileset(&v, x);
        }
        tool_progress(&v.t, i + 1, x->bytes);
    }
    tell_strange(&v);
    printf("%" PRIu64 " filesets and %" PRIu64 " manifests are well, %" PRIu64 " bad, %" PRIu64
           " cannot be read, %" PRIu64 " unfinished, %" PRIu64 " in no catalogue\n", v.good,
           v.manifests, v.bad, v.unreadable, v.unfinished, v.strange);
    tool_close(&v.t);
    return v.bad > 0 ? 1 : v.unreadable > 0 ? 2 : 0;
}
