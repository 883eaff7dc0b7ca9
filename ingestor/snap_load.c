/*
 * A partition's snapshot, read back: as work, into a partition that is empty. Whether it fits the log
 * is seen on the loop, when the log's bounds are known.
 */
#include "ingestor/stored.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 20, NAME_ROOM = 64 };

void ing_snap_chunks_name(uint64_t serial, char *name, size_t size)
{
    snprintf(name, size, "chunks-%016" PRIx64, serial);
}

static bool chunks_serial(const char *name, uint64_t *serial)
{
    char again[NAME_ROOM];

    if (strncmp(name, "chunks-", 7) != 0 || sscanf(name + 7, "%16" SCNx64, serial) != 1)
        return false;
    ing_snap_chunks_name(*serial, again, sizeof again);
    return strcmp(name, again) == 0;
}

enum kl_code ing_snap_folder(struct ing_partition *p, struct kl_env_dir **dir, struct kl_err *err)
{
    struct kl_env_dir *root = p->i->dir, *all;
    char               name[16];

    snprintf(name, sizeof name, "%04" PRIu32, p->number);
    if (root->enter(root, "snapshots", true, &all, err) != KL_OK)
        return kl_within(err, "folder of snapshots");
    if (root->sync_names(root, err) != KL_OK || all->enter(all, name, true, dir, err) != KL_OK) {
        all->leave(all);
        return kl_within(err, "folder of snapshots");
    }
    if (all->sync_names(all, err) != KL_OK) {
        (*dir)->leave(*dir);
        all->leave(all);
        return kl_within(err, "folder of snapshots");
    }
    all->leave(all);
    return KL_OK;
}

/* ---- files ---- */

struct listing { uint64_t *serials; size_t count, room; uint64_t last; bool head, bad; char tmp[2][NAME_ROOM]; };
static const char *const tmps[2] = { "head.tmp", "chunks.tmp" };

static void note(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct listing *l = ctx;
    uint64_t        serial;

    (void)size_bytes;
    if (is_dir)
        return;
    l->head |= strcmp(name, "head") == 0;
    for (int i = 0; i < 2; i++)
        if (strcmp(name, tmps[i]) == 0)
            strcpy(l->tmp[i], name);
    if (!chunks_serial(name, &serial))
        return;
    if (l->count == l->room) {
        l->room = l->room == 0 ? 16 : l->room * 2;
        l->serials = kl_resize(l->serials, l->room * sizeof *l->serials);
    }
    l->serials[l->count++] = serial;
    if (serial > l->last)
        l->last = serial;
}

void ing_snap_tidy(struct kl_env_dir *dir, const uint64_t *serials, uint32_t count)
{
    struct listing l = { 0 };
    struct kl_err  err;
    char           name[NAME_ROOM];

    if (dir->list(dir, note, &l, &err) != KL_OK)
        l.count = 0;                                   /* the next pass does it */
    for (size_t i = 0; i < l.count; i++) {
        bool used = false;

        for (uint32_t k = 0; k < count; k++)
            used |= serials[k] == l.serials[i];
        if (used)
            continue;
        ing_snap_chunks_name(l.serials[i], name, sizeof name);
        dir->remove(dir, name, &err);
    }
    free(l.serials);
}

void ing_files_close(struct ing_partition *p)
{
    for (uint32_t slot = 1; slot <= ING_FILES_MAX; slot++) {
        struct ing_file *f = p->files.at[slot];

        if (f == NULL)
            continue;
        assert(f->live == 0);
        f->dir->view_close(f->view);
        free(f);
        p->files.at[slot] = NULL;
    }
    atomic_store(&p->files.damaged, 0);
    if (p->spilled != NULL)
        p->spilled->leave(p->spilled);
    p->spilled = NULL;
}

/* ---- reading ---- */

struct source {
    struct kl_env_dir  *dir;
    struct kl_env_view *view;
    uint64_t size, at;                                 /* of the file; of what is read next */
    struct kl_buf bytes;
    size_t   from;                                     /* in bytes: what is not used yet */
};

/* `size` bytes, borrowed until the next call. */
static const uint8_t *take(struct source *s, size_t size, struct kl_err *err)
{
    const uint8_t *at;

    if (s->bytes.size - s->from < size) {
        size_t left = s->bytes.size - s->from, want = size - left;

        if (want > s->size - s->at) {
            kl_fail(err, KL_ECORRUPT, "it ends at byte %" PRIu64, s->size);
            return NULL;
        }
        if (want < READ_BYTES)
            want = s->size - s->at < READ_BYTES ? (size_t)(s->size - s->at) : READ_BYTES;
        if (left > 0)
            memmove(s->bytes.at, s->bytes.at + s->from, left);
        s->bytes.size = left;
        s->from = 0;
        kl_buf_reserve(&s->bytes, want);
        if (s->dir->view_read(s->view, s->at, s->bytes.at + left, want, err) != KL_OK)
            return NULL;
        s->bytes.size += want;
        s->at += want;
    }
    at = (const uint8_t *)s->bytes.at + s->from;
    s->from += size;
    return at;
}

static enum kl_code read_blocks(struct ing_get *g, struct source *s, struct kl_err *err)
{
    for (uint64_t number = 0; !g->end_seen; number++) {
        const uint8_t *at = take(s, ING_SNAP_BLOCK_HEAD, err);
        uint32_t       head[3];

        if (at == NULL)
            return err->code;
        memcpy(head, at, sizeof head);
        if (head[1] > ING_SNAP_BLOCK_MAX)
            return kl_fail(err, KL_ECORRUPT, "block %" PRIu64 " is no block", number);
        at = take(s, head[1], err);
        if (at == NULL)
            return err->code;
        if (head[2] != ing_snap_block_crc(g->header.serial, number, head[0], kl_span(at, head[1])))
            return kl_fail(err, KL_ECORRUPT, "block %" PRIu64 " is damaged", number);
        if (ing_get_block(g, head[0], kl_span(at, head[1]), err) != KL_OK)
            return kl_within(err, "block %" PRIu64, number);
    }
    return s->at == s->size && s->from == s->bytes.size
         ? KL_OK : kl_fail(err, KL_ECORRUPT, "something comes after its end");
}

/* What cuts took that the snapshot has not seen: it is in filesets. */
static void taken(void *ctx, struct ing_series *s, struct ing_chunk *c) { (void)ctx, (void)s, (void)c; }

static enum ing_fate fate(void *ctx, const struct ing_exemplar *e)
{
    return e->time_ms < *(const int64_t *)ctx ? ING_GONE : ING_KEPT;
}

static void forget_covered(struct ing_partition *p, struct ing_head *h, int64_t end_ms)
{
    uint64_t gone = h->gone;

    for (uint32_t id = 0; id < h->made; id++) {
        struct ing_series *s = ing_series_at(h, id);

        if (!s->alive)
            continue;
        ing_series_cut(h, s, 1, end_ms, taken, p);
        ing_series_let_go(h, s, 1);
        if (ing_series_idle(s))
            ing_head_remove(h, s);
    }
    if (h->gone != gone)
        ing_pairs_sweep(&h->pairs);
    ing_extras_sift(h, fate, &end_ms);
    ing_extras_told(h, end_ms, false);                 /* perhaps its tenant had no fileset */
}

static void cover(struct ing_partition *p)
{
    for (uint32_t i = 0; i < p->loaded.cut_count; i++) {
        const struct blk_cut *cut = &p->loaded.cuts[i];

        if (cut->seq <= p->restored.seq)
            continue;
        for (uint32_t t = 0; t < p->tenant_count; t++)
            forget_covered(p, p->tenants[t].head, cut->end_ms);
        ing_first_forget(p, cut->end_ms);
    }
}

static enum kl_code read_head(struct ing_partition *p, struct ing_get *g, struct source *s,
                              bool *stale, struct kl_err *err)
{
    const uint8_t *at = take(s, ING_SNAP_HEADER, err);

    if (at == NULL || ing_snap_header_get(at, &g->header, err) != KL_OK)
        return err->code;
    if (g->header.partition != p->number)
        return kl_fail(err, KL_ECORRUPT, "it is of partition %" PRIu32, g->header.partition);
    if (g->header.serial > p->snap_serial)
        p->snap_serial = g->header.serial;
    *stale = (p->pointer_revision != 0 && g->header.incarnation != p->loaded.incarnation) ||
             g->header.seq + 1 < p->loaded.replay_from;
    return *stale ? KL_OK : read_blocks(g, s, err);
}

void ing_tenants_free(struct ing_partition *p)
{
    for (uint32_t t = 0; t < p->tenant_count; t++) {
        for (struct ing_refs *r = p->tenants[t].refs, *next; r != NULL; r = next) {
            next = r->next;
            ing_refs_free(r);
        }
        ing_head_free(p->tenants[t].head);
    }
    free(p->tenants);
    free(p->tenant_slots);
    free(p->firsts);
    p->tenants = NULL;
    p->tenant_slots = NULL;
    p->firsts = NULL;
    p->tenant_count = p->tenant_room = p->tenant_mask = 0;
    p->last_tenant = UINT32_MAX;
    p->last_refs = NULL;
    p->first_count = p->first_room = 0;
    p->first_lo = p->first_hi = 0;
    p->first_any = p->orphan_bytes = 0;
    p->cut_seq = p->epoch_seen = 0;
    p->cut_end_ms = 0;
    p->cut_number = 0;
    p->aged_ms = p->record_time_ms = 0;
    ing_digest_reset(p);
}

void ing_snap_discard(struct ing_partition *p)
{
    ing_tenants_free(p);
    ing_files_close(p);
    p->restored = (struct ing_restored){ 0 };
}

/* Under another name, so that an operator may look at it; the last one only. */
static enum kl_code set_aside(struct ing_partition *p, struct kl_env_dir *dir, uint64_t bad_serial,
                              struct kl_err *err)
{
    char name[NAME_ROOM];

    if (dir->rename(dir, "head", "head.bad", err) != KL_OK && err->code != KL_ENOENT)
        return kl_within(err, "set a snapshot aside");
    ing_snap_chunks_name(bad_serial, name, sizeof name);
    if (bad_serial != 0 && dir->rename(dir, name, "chunks.bad", err) != KL_OK && err->code != KL_ENOENT)
        return kl_within(err, "set a snapshot aside");
    if (dir->sync_names(dir, err) != KL_OK)
        return kl_within(err, "set a snapshot aside");
    kl_count(p->i->m.set_aside, 1);
    return KL_OK;
}

/* A repair's: the whole of it, so that it can be looked at, under names that end in ".kept". The last one only. */
struct keeping { char (*names)[NAME_ROOM]; size_t count, room; };

static void keep_note(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct keeping *k = ctx;

    (void)size_bytes;
    if (is_dir || strlen(name) >= NAME_ROOM)
        return;
    if (k->count == k->room) {
        k->room = k->room == 0 ? 16 : k->room * 2;
        k->names = kl_resize(k->names, k->room * sizeof *k->names);
    }
    strcpy(k->names[k->count++], name);
}

static enum kl_code keep_aside(struct kl_env_dir *dir, struct kl_err *err)
{
    static const char kept[] = ".kept";
    struct keeping    k = { 0 };
    enum kl_code      code = dir->list(dir, keep_note, &k, err);
    char              to[NAME_ROOM + sizeof kept];
    uint64_t          serial;
    bool              head = false;

    for (size_t i = 0; i < k.count; i++)
        head |= strcmp(k.names[i], "head") == 0;
    for (size_t i = 0; code == KL_OK && head && i < k.count; i++) {
        size_t size = strlen(k.names[i]);

        if (size >= sizeof kept && strcmp(k.names[i] + size - (sizeof kept - 1), kept) == 0)
            code = dir->remove(dir, k.names[i], err);
    }
    for (size_t i = 0; code == KL_OK && head && i < k.count; i++) {
        if (strcmp(k.names[i], "head") != 0 && !chunks_serial(k.names[i], &serial))
            continue;
        snprintf(to, sizeof to, "%s%s", k.names[i], kept);
        code = dir->rename(dir, k.names[i], to, err);
    }
    free(k.names);
    if (code != KL_OK || dir->sync_names(dir, err) != KL_OK)
        return kl_within(err, "keep a snapshot aside");
    return KL_OK;
}

static enum kl_code open_folder(struct ing_partition *p, struct listing *l, struct kl_err *err)
{
    if (ing_snap_folder(p, &p->spilled, err) != KL_OK) {
        p->spilled = NULL;
        return err->code;
    }
    if (p->damaged && (p->repair.under_way ? keep_aside(p->spilled, err)
                                           : set_aside(p, p->spilled, p->bad_serial, err)) != KL_OK)
        return err->code;
    p->damaged = false;
    p->bad_serial = 0;
    if (p->spilled->list(p->spilled, note, l, err) != KL_OK)
        return kl_within(err, "folder of snapshots");
    if (l->last > p->snap_serial)
        p->snap_serial = l->last;
    for (int i = 0; i < 2; i++)
        if (l->tmp[i][0] != '\0' && p->spilled->remove(p->spilled, l->tmp[i], err) != KL_OK)
            return kl_within(err, "what a crash left of a snapshot");
    return KL_OK;
}

static enum kl_code load(struct ing_partition *p, struct kl_err *err)
{
    struct listing l = { 0 };
    struct ing_get g = { .p = p };
    struct source  s = { 0 };
    enum kl_code   code;
    bool           stale = false;

    ing_snap_discard(p);
    code = open_folder(p, &l, err);
    free(l.serials);
    if (code != KL_OK || !l.head) {
        if (code != KL_OK)
            ing_snap_discard(p);
        return code;
    }
    s.dir = p->spilled;
    code = s.dir->view(s.dir, "head", &s.view, &s.size, err);
    g.size_bytes = s.size;
    if (code == KL_OK)
        code = read_head(p, &g, &s, &stale, err);
    /* It was cut, so there were filesets; which, only the catalogue knew. */
    if (code == KL_OK && !stale && p->pointer_revision == 0 && p->epoch_seen != 0) {
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the KV has no pointer of the catalogue, "
                "though windows were cut: the snapshot is not used", p->number);
        stale = true;
    }
    if (code == KL_OK && !stale) {
        p->restored = (struct ing_restored){ .is = true, .seq = g.header.seq, .seq_end = g.end.seq,
                                             .hash_end = g.end.hash, .time_ms = g.header.time_ms,
                                             .log_from = g.end.log_from, .log_hash = g.end.log_hash };
        p->snap_bytes = s.size;
        p->incarnation = g.header.incarnation;
        cover(p);
        if (atomic_load(&p->files.damaged) == 2) {     /* a chunk that a cut divides */
            code = p->files.words.code;
            *err = p->files.words;
            p->bad_serial = p->files.bad_serial;
        }
    }
    if (s.view != NULL)
        s.dir->view_close(s.view);
    kl_buf_deinit(&s.bytes);
    ing_get_free(&g);
    if (code == KL_OK && !stale)
        return KL_OK;
    if (code == KL_ECORRUPT) {
        uint64_t bad = p->bad_serial;

        kl_logf(p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": the snapshot "
                "snapshots/%04" PRIu32 "/head is set aside, the log is replayed from record %" PRIu64
                " in its place: %s", p->number, p->number, p->loaded.replay_from, err->text);
        code = set_aside(p, p->spilled, bad, err);
    } else if (code != KL_OK) {
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the snapshot is not used, "
                "the log is replayed from record %" PRIu64 " in its place: %s", p->number,
                p->loaded.replay_from, err->text);
        code = KL_OK;
    }
    p->bad_serial = 0;
    ing_tenants_free(p);
    p->restored = (struct ing_restored){ 0 };
    if (code != KL_OK) {
        ing_snap_discard(p);
        return code;
    }
    for (uint32_t slot = 1; slot <= ING_FILES_MAX; slot++)     /* but the folder stays open */
        if (p->files.at[slot] != NULL) {
            p->spilled->view_close(p->files.at[slot]->view);
            free(p->files.at[slot]);
            p->files.at[slot] = NULL;
        }
    atomic_store(&p->files.damaged, 0);
    return KL_OK;
}

/* Whoever makes its state anew from the log asks nobody for a snapshot, which might be what is wrong. */
enum kl_code ing_snap_load(struct ing_partition *p, struct kl_err *err)
{
    if (load(p, err) != KL_OK)
        return err->code;
    if (p->restored.is || p->i->o.stored_ms == 0 || p->i->o.snapshot_ms == 0 || p->repair.under_way || p->store_fetched ||
        !ing_stored_fetch(p))
        return KL_OK;
    return load(p, err);
}
