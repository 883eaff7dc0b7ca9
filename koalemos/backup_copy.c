#include "koalemos/backup_priv.h"

#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKPOINT_MAX = 4096, PIECE = 1 << 20 };

/* ---- the list ---- */

void backup_key(int64_t at_ms, const char *name, char key[BACKUP_KEY_MAX])
{
    snprintf(key, BACKUP_KEY_MAX, "backup/%013" PRId64 "/%s", at_ms, name);
}

void backup_list_begin(struct kl_buf *list, const char *cell)
{
    kl_buf_addf(list, "koalemos backup 1\ncell %.100s\n", cell);
}

void backup_list_end(struct kl_buf *list)
{
    size_t lines = 0;

    for (size_t i = 0; i < list->size; i++)
        lines += list->at[i] == '\n';
    kl_buf_addf(list, "end %zu %016" PRIx64 "\n", lines, kl_hash64(list->at, list->size));
}

static enum kl_code no_list(struct kl_err *err, const char *why)
{
    return kl_fail(err, KL_ECORRUPT, "the list of the backup %s", why);
}

/* Where its last line begins; that line says how many there are before it, and their hash. */
static enum kl_code check_end(const char *text, size_t size, size_t *body, struct kl_err *err)
{
    size_t   lines = 0, said;
    uint64_t hash;
    int      used = 0;

    if (size < 2 || text[size - 1] != '\n')
        return no_list(err, "is cut short");
    *body = size - 1;
    while (*body > 0 && text[*body - 1] != '\n')
        --*body;
    for (size_t i = 0; i < *body; i++)
        lines += text[i] == '\n';
    if (sscanf(text + *body, "end %zu %16" SCNx64 "%n", &said, &hash, &used) != 2 || text[*body + (size_t)used] != '\n' ||
        said != lines)
        return no_list(err, "is cut short");
    if (hash != kl_hash64(text, *body))
        return no_list(err, "was changed: its checksum is wrong");
    return KL_OK;
}

static enum kl_code one_line(const char *line, char cell[128], const struct backup_each *e, struct kl_err *err)
{
    uint32_t partition;
    uint64_t hash;
    char     rest[KL_STORE_KEY_MAX + 1];

    if (sscanf(line, "cell %127s", cell) == 1)
        return KL_OK;
    if (sscanf(line, "manifest %" SCNu32 " %16" SCNx64, &partition, &hash) == 2)
        return e->manifest(e->ctx, partition, hash, err);
    if (sscanf(line, "fileset %16" SCNx64 " %500s", &hash, rest) == 2)
        return e->fileset(e->ctx, hash, rest, err);
    if (sscanf(line, "mark %500s", rest) == 1)
        return e->mark(e->ctx, rest, err);
    return no_list(err, "has a line that is not understood");
}

enum kl_code backup_list_read(struct kl_span text, char cell[128], const struct backup_each *each,
                              struct kl_err *err)
{
    static const char first[] = "koalemos backup 1\n";
    size_t            body = 0;
    char             *copy, *line, *end;
    enum kl_code      code = KL_OK;

    if (text.size < sizeof first || memcmp(text.at, first, sizeof first - 1) != 0)
        return no_list(err, "is none, or of a version that this program does not know");
    copy = kl_resize(NULL, text.size + 1);
    memcpy(copy, text.at, text.size);
    copy[text.size] = '\0';
    cell[0] = '\0';
    code = check_end(copy, text.size, &body, err);
    copy[code == KL_OK ? body : 0] = '\0';
    for (line = copy + sizeof first - 1; code == KL_OK && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        code = one_line(line, cell, each, err);
    }
    free(copy);
    return code;
}

/* ---- objects ---- */

enum kl_code backup_read(struct kl_store *s, const char *key, uint64_t cap, void **bytes, size_t *size,
                         struct kl_err *err)
{
    uint64_t     n;
    enum kl_code code = s->head(s, key, &n, err);

    if (code == KL_OK && n > cap)
        code = kl_fail(err, KL_ELIMIT, "%s has %" PRIu64 " bytes", key, n);
    if (code != KL_OK)
        return code;
    *bytes = kl_resize(NULL, n + 1);
    *size = n;
    code = n == 0 ? KL_OK : s->get(s, key, 0, *bytes, n, err);
    if (code != KL_OK)
        free(*bytes);
    return code;
}

struct source { struct kl_store *store; const char *key; };

static enum kl_code read_source(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    const struct source *s = ctx;
    enum kl_code         code = KL_OK;

    for (size_t at = 0; at < size && code == KL_OK; at += PIECE)
        code = s->store->get(s->store, s->key, offset + at, (char *)bytes + at,
                             size - at < PIECE ? size - at : PIECE, err);
    return code;
}

/* What is there under that name is of an earlier try, or another's: are the bytes the same? */
static enum kl_code compare(struct kl_store *from, struct kl_store *to, const char *key, uint64_t size,
                            struct kl_err *err)
{
    uint64_t     there;
    char        *both;
    enum kl_code code = to->head(to, key, &there, err);

    if (code != KL_OK)
        return code;
    both = kl_resize(NULL, 2 * PIECE);
    if (there != size)
        code = KL_EEXIST;
    for (uint64_t at = 0; at < size && code == KL_OK; at += PIECE) {
        size_t n = size - at < PIECE ? (size_t)(size - at) : PIECE;

        code = from->get(from, key, at, both, n, err);
        if (code == KL_OK)
            code = to->get(to, key, at, both + PIECE, n, err);
        if (code == KL_OK && memcmp(both, both + PIECE, n) != 0)
            code = KL_EEXIST;
    }
    free(both);
    return code == KL_EEXIST ? kl_fail(err, KL_EEXIST, "another object %s is there", key) : code;
}

enum kl_code backup_copy_object(struct kl_store *from, struct kl_store *to, const char *key,
                                uint64_t *bytes, struct kl_err *err)
{
    struct source        s = { from, key };
    struct kl_store_feed feed = { .read = read_source, .ctx = &s };
    enum kl_code         code = from->head(from, key, &feed.size_bytes, err);

    if (code != KL_OK)
        return code;
    code = kl_store_put_from(to, key, &feed, err);
    if (code == KL_OK)
        *bytes += feed.size_bytes;
    return code == KL_EEXIST ? compare(from, to, key, feed.size_bytes, err) : code;
}

/* Of what is in a store, by its checkpoint. */
static enum kl_code checkpoint_of(struct kl_store *s, const char *path, uint64_t *hash, struct kl_err *err)
{
    char         key[KL_STORE_KEY_MAX + 1];
    void        *bytes;
    size_t       size;
    enum kl_code code;

    snprintf(key, sizeof key, "%s/checkpoint", path);
    code = backup_read(s, key, CHECKPOINT_MAX, &bytes, &size, err);
    if (code != KL_OK)
        return code;
    *hash = kl_hash64(bytes, size);
    free(bytes);
    return KL_OK;
}

static enum kl_code read_back(struct kl_store *to, const char *path, struct kl_err *err)
{
    struct blk_fileset *f;
    enum kl_code        code = blk_fileset_open_store(to, path, &f, err);

    if (code != KL_OK)
        return code;
    code = blk_fileset_verify(f, err);
    blk_fileset_unref(f);
    return code;
}

enum kl_code backup_copy(struct kl_store *from, struct kl_store *to, const char *path, uint64_t *hash,
                         uint64_t *bytes, struct kl_err *err)
{
    static const char *const parts[] = { "data", "meta", "checkpoint" };
    uint64_t     there;
    enum kl_code code = checkpoint_of(from, path, hash, err);

    if (code != KL_OK)
        return code;
    code = checkpoint_of(to, path, &there, err);
    if (code == KL_OK)
        return there == *hash ? KL_OK
             : kl_fail(err, KL_EEXIST, "another fileset %s is there: of another cell, or another life of it", path);
    if (code != KL_ENOENT)
        return code;
    code = KL_OK;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && code == KL_OK; i++) {
        char key[KL_STORE_KEY_MAX + 1];

        snprintf(key, sizeof key, "%s/%s", path, parts[i]);
        code = backup_copy_object(from, to, key, bytes, err);
    }
    if (code == KL_OK && read_back(to, path, err) != KL_OK) {
        struct kl_err first = *err, unheard;

        code = first.code;
        if (code == KL_ECORRUPT)                       /* it shall not pass for a good one */
            blk_fileset_remove_stored(to, path, &unheard);
        *err = first;
    }
    return code;
}
