/*
 * Loading a partition: the catalogue's pointer from the KV, then (work) its manifest from the store,
 * what a crash left in the folder, and the snapshot, then the bounds of the log. Fails as a whole and is tried
 * again; nothing of it changes anything but leftovers that the catalogue does not need.
 */
#include "ingestor/ing_priv.h"
#include "ingestor/peer.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum kl_code ing_folder(struct ing_partition *p, struct kl_err *err)
{
    struct kl_env_dir *dir = p->i->dir;

    if (p->filesets != NULL)
        return KL_OK;
    if (dir->enter(dir, "filesets", true, &p->filesets, err) != KL_OK) {
        p->filesets = NULL;
        return kl_within(err, "folder of filesets");
    }
    if (dir->sync_names(dir, err) != KL_OK) {
        ing_load_leave(p);
        return kl_within(err, "folder of filesets");
    }
    return KL_OK;
}

void ing_load_leave(struct ing_partition *p)
{
    if (p->filesets != NULL)
        p->filesets->leave(p->filesets);
    p->filesets = NULL;
}

/* ---- what a crash left ---- */

struct leftovers { struct ing_partition *p; char **paths; size_t count, room; };

static void leftover(struct leftovers *l, const char *path)
{
    if (l->count == l->room) {
        l->room = l->room == 0 ? 8 : l->room * 2;
        l->paths = kl_resize(l->paths, l->room * sizeof *l->paths);
    }
    l->paths[l->count++] = kl_strdup(path);
}

static void unfinished(void *ctx, const char *path)
{
    struct leftovers *l = ctx;
    struct blk_info   info;
    struct kl_err     err;

    if (blk_fileset_path_parse(path, &info, &err) == KL_OK && info.partition == l->p->number)
        leftover(l, path);
}

static bool listed(const struct ing_partition *p, const struct blk_info *info)
{
    return blk_manifest_find(&p->loaded, info) < p->loaded.fileset_count;
}

/* In the catalogue, and young enough to be here as well (local.c). */
static bool stays(const struct ing_partition *p, const struct blk_info *info)
{
    uint32_t i = blk_manifest_find(&p->loaded, info);

    return i < p->loaded.fileset_count && ing_local_keeps(p, p->loaded.filesets[i].max_ms);
}

/* Cuts come into the catalogue in their order: of one before the last all is there, or was. */
static bool cut_is_committed(const struct ing_partition *p, uint64_t id)
{
    for (uint32_t i = 0; i < p->loaded.cut_count; i++)
        if (p->loaded.cuts[i].seq >= id)
            return true;
    return false;
}

/* Whole, and in the catalogue, or replaced there since: it was uploaded. Whole and of a cut that is
 * not: the replay will come to it. What a compaction made nobody will come to. */
static void whole(void *ctx, const char *path)
{
    struct leftovers *l = ctx;
    struct blk_info   info;
    struct kl_err     err;

    if (blk_fileset_path_parse(path, &info, &err) == KL_OK && info.partition == l->p->number &&
        !stays(l->p, &info) &&
        (info.generation != 0 || listed(l->p, &info) || cut_is_committed(l->p, info.id)))
        leftover(l, path);
}

/* A compaction that never came to its commit may have been uploaded; the local folder goes last. */
static enum kl_code remove_leftover(struct ing_partition *p, const char *path, struct kl_err *err)
{
    struct blk_info info;

    if (blk_fileset_path_parse(path, &info, err) != KL_OK)
        return err->code;
    if (!listed(p, &info) && !(info.generation == 0 && cut_is_committed(p, info.id))) {
        kl_count(p->i->m.leftovers, 1);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": fileset %s was not finished, or "
                "not committed, before the start, and is removed: %s", p->number, path,
                info.generation != 0 ? "what it was made of is there" : "the log has its samples");
    }
    if (info.generation != 0 && !listed(p, &info) &&
        blk_fileset_remove_stored(p->i->store, path, err) != KL_OK)
        return err->code;
    return blk_fileset_remove(p->filesets, path, err);
}

static enum kl_code tidy(struct ing_partition *p, struct kl_err *err)
{
    struct leftovers l = { .p = p };

    if (ing_folder(p, err) != KL_OK)
        return err->code;
    if (blk_fileset_scan(p->filesets, whole, unfinished, &l, err) != KL_OK)
        kl_within(err, "look for leftovers");
    else
        err->code = KL_OK;
    for (size_t i = 0; i < l.count; i++) {
        struct kl_err failed = { 0 };

        if (err->code == KL_OK &&
            remove_leftover(p, l.paths[i], &failed) != KL_OK &&
            failed.code != KL_ENOENT)
            kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": cannot remove the "
                    "leftover %s: %s", p->number, l.paths[i], failed.text);
        free(l.paths[i]);
    }
    free(l.paths);
    return err->code;
}

/* Manifests before the newest: a start finds what the process before it had not come to remove. */
struct older { struct ing_partition *p; size_t prefix; int64_t at_ms; };

static void older(void *ctx, const char *key, uint64_t size_bytes)
{
    struct older *o = ctx;
    uint64_t      revision;
    char         *end;

    (void)size_bytes;
    revision = strtoull(key + o->prefix, &end, 10);
    if (*end == '\0' && revision < o->p->loaded.revision)
        ing_olds_add(o->p, revision, o->at_ms);
}

static enum kl_code find_older(struct ing_partition *p, struct kl_err *err)
{
    char         key[KL_STORE_KEY_MAX + 1];
    struct older o = { .p = p, .at_ms = kl_env_now_ms(p->i->env) + ING_OLD_MS };

    p->old_count = 0;
    blk_manifest_key(p->number, 0, key);
    o.prefix = (size_t)(strrchr(key, '/') + 1 - key);
    key[o.prefix] = '\0';
    return p->i->store->list(p->i->store, key, older, &o, err) == KL_OK
         ? KL_OK : kl_within(err, "older manifests");
}

/* ---- the steps ---- */

void ing_load_failed(struct ing_partition *p, const struct kl_err *err)
{
    p->loading = false;
    ing_snap_discard(p);
    blk_manifest_deinit(&p->loaded);
    p->loaded = (struct blk_manifest){ 0 };
    if (ing_stopping(p) || atomic_load(&p->state) == ING_AWAY)
        return;
    p->words = *err;
    p->load_failures++;
    p->load_again_ns = kl_env_mono_ns(p->i->env) +
                       ing_backoff_ms(p->i, p->load_failures) * 1000000;
    /* One that is canceled: the bus or the store is closed, and this ingestor ends next. */
    kl_logf(p->i->o.log, p->load_failures == 1 && err->code != KL_ECANCELED ? KL_WARN : KL_DEBUG,
            "ingestor: partition %" PRIu32 " cannot be loaded, trying again: %s", p->number,
            err->text);
}

static void got_info(struct kl_bus_info *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, info);

    ing_in(p->i);
    if (op->code != KL_OK) {
        kl_within(&op->err, "ask for the log's bounds");
        ing_load_failed(p, &op->err);
        return;
    }
    /* Nobody wants it any more, or it may be another log. */
    if (atomic_load(&p->state) == ING_AWAY || ing_logmark_doubts(p, &op->err)) {
        ing_load_failed(p, &op->err);
        return;
    }
    p->loading = false;
    ing_loaded(p);
}

static void load_work(struct kl_env_task *task)
{
    struct ing_partition *p = kl_container_of(task, struct ing_partition, load_work);

    p->load_code = KL_OK;
    p->loaded = (struct blk_manifest){ .partition = p->number, .replay_from = 1 };
    if (p->pointer_revision != 0) {
        struct blk_manifest m = { 0 };

        p->load_code = blk_manifest_read(p->i->store, p->number, &p->pointer, &m, &p->load_err);
        if (p->load_code == KL_OK)
            p->loaded = m;
    }
    if (p->load_code == KL_OK) {
        p->load_err = (struct kl_err){ 0 };
        p->load_code = tidy(p, &p->load_err);
        if (p->load_code == KL_OK && p->pointer_revision != 0)
            p->load_code = find_older(p, &p->load_err);
    }
    if (p->load_code == KL_OK)
        p->load_code = ing_snap_load(p, &p->load_err);
    p->i->env->sched->post(p->shard->loop, &p->load_back);
}

static void load_back(struct kl_env_task *task)
{
    struct ing_partition *p = kl_container_of(task, struct ing_partition, load_back);

    ing_in(p->i);
    if (p->load_code != KL_OK || ing_stopping(p)) {
        ing_load_failed(p, &p->load_err);
        return;
    }
    p->info = (struct kl_bus_info){ .partition = p->number, .loop = p->shard->loop,
                                    .done = got_info };
    p->info_ns = kl_env_mono_ns(p->i->env);
    ing_out(p->i);
    p->i->bus->info(p->i->bus, &p->info);
}

static void got_skips(struct ing_partition *p, enum kl_code code, const struct kl_err *err)
{
    if (code != KL_OK || ing_stopping(p)) {
        ing_in(p->i);
        ing_load_failed(p, err);
        return;
    }
    p->load_work = (struct kl_env_task){ .run = load_work };
    p->load_back = (struct kl_env_task){ .run = load_back };
    p->i->env->sched->errand(p->i->env->sched, &p->load_work);
}

static void got_mark(struct ing_partition *p, enum kl_code code, const struct kl_err *err)
{
    if (code == KL_OK && !ing_stopping(p)) {
        ing_skips_load(p, got_skips);
        return;
    }
    ing_in(p->i);
    ing_load_failed(p, err);
}

static void got_pointer(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, kv);

    p->pointer_revision = 0;
    p->pointer = (struct blk_pointer){ 0 };
    if (op->code == KL_OK) {
        p->pointer_revision = op->revision;
        if (blk_pointer_decode(kl_span(op->got, op->got_size), &p->pointer, &op->err) != KL_OK) {
            kl_within(&op->err, "the catalogue's pointer");
            op->code = op->err.code;
        }
        free(op->got);
    }
    if ((op->code != KL_OK && op->code != KL_ENOENT) || ing_stopping(p)) {
        ing_in(p->i);
        ing_load_failed(p, &op->err);
        return;
    }
    ing_logmark_load(p, got_mark);
}

static void get_pointer(struct ing_partition *p)
{
    p->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = p->shard->loop,
                                .done = got_pointer };
    blk_pointer_key(p->number, p->kv.key, sizeof p->kv.key);
    ing_out(p->i);
    p->i->bus->kv(p->i->bus, &p->kv);
}

void ing_load(struct ing_partition *p)
{
    assert(!p->loading);
    p->loading = true;
    if (p->i->o.snapshot_ms != 0 && !p->repair.under_way)      /* alone nobody answers, at once; whether it is, is */
        ing_peer_fetch(p, get_pointer);                /* not known yet. Before the pointer is read: peer.h */
    else
        get_pointer(p);
}
