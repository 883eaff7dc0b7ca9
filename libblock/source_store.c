/*
 * A fileset in a store, and how it comes there: three objects, put in this order.
 *
 *   <path>/data         as the file
 *   <path>/meta         index, extras, postings, bloom, summaries, info, digests end to end, then
 *                       "KOAm" u8 version, 3 zero bytes, 7 times u64 size,
 *                       u64 XXH3-64 of these 64 bytes, seeded with the fileset's identity
 *   <path>/checkpoint   as the file
 *
 * The last TAIL bytes of meta are read at once and kept while the fileset is open: for a small one
 * that is all of it.
 */
#include "libblock/fileset_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum { PACKED = BLK_DATA + 1, FOOTER = 8 + 8 * PACKED + 8, TAIL = 64 * 1024 };
/* A request costs as much time as half a megabyte, and bytes cost money: never half as many again. */
enum { NEAR = 512 * 1024, PERCENT_MAX = 140 };
enum { META_MAX = 1 << 30, COMPARE = 1 << 20 };
_Static_assert(FOOTER == 72, "the footer of meta is part of the format");
/* In `meta` the place of data is taken by digests. */
enum { PACKED_DIGESTS = BLK_DATA };

struct stored {
    struct blk_source source;
    struct kl_store  *store;
    char     data[KL_STORE_KEY_MAX + 1], meta[KL_STORE_KEY_MAX + 1];
    uint64_t begin[PACKED], size[PACKED], data_size;
    uint64_t tail_from;
    uint8_t *tail;
    size_t   tail_size;
};

static void key_of(const char *path, const char *name, char key[KL_STORE_KEY_MAX + 1])
{
    snprintf(key, KL_STORE_KEY_MAX + 1, "%s/%s", path, name);
}

static void stored_close(struct blk_source *s)
{
    struct stored *o = kl_container_of(s, struct stored, source);

    free(o->tail);
    free(o);
}

static void add(struct blk_bytes *tally, const struct kl_store_tally *t)
{
    tally->disk += t->disk_bytes;
    tally->store += t->store_bytes;
    tally->shared += t->shared_bytes;
    tally->requests += t->requests;
}

/* A read that fails because the object is shorter than it must be is corruption, not bad luck; so is
 * an object that is gone, though the checkpoint was there: KL_ENOENT would pass for the end. */
static enum kl_code get(struct kl_store *store, const char *key, uint64_t whole, uint64_t offset,
                        void *bytes, size_t size, struct blk_bytes *tally, struct kl_err *err)
{
    struct kl_err         head_err;
    uint64_t              there;
    struct kl_store_tally t = { 0 };
    enum kl_code code = size == 0 ? KL_OK : kl_store_get(store, key, offset, bytes, size, &t, err);

    if (tally != NULL)
        add(tally, &t);

    if (code == KL_ENOENT)
        return kl_fail(err, KL_ECORRUPT, "missing");
    if (code == KL_EIO && store->head(store, key, &there, &head_err) == KL_OK && there != whole)
        return kl_fail(err, KL_ECORRUPT, "%llu bytes, not %llu", (unsigned long long)there,
                       (unsigned long long)whole);
    return code;
}

static enum kl_code stored_read(struct blk_source *s, enum blk_file file, uint64_t offset, void *bytes,
                                size_t size, struct blk_bytes *tally, struct kl_err *err)
{
    struct stored *o = kl_container_of(s, struct stored, source);
    uint64_t       at;

    if (file == BLK_DATA)
        return get(o->store, o->data, o->data_size, offset, bytes, size, tally, err);
    if (offset > o->size[file] || size > o->size[file] - offset)
        return kl_fail(err, KL_ECORRUPT, "shorter than it must be");
    at = o->begin[file] + offset;
    if (at < o->tail_from)
        return get(o->store, o->meta, o->tail_from + o->tail_size, at, bytes, size, tally, err);
    memcpy(bytes, o->tail + (at - o->tail_from), size);
    return KL_OK;
}

static void stored_ahead(struct blk_source *s, enum blk_file file, uint64_t offset, size_t size)
{
    struct stored *o = kl_container_of(s, struct stored, source);

    if (file == BLK_DATA)
        o->store->ahead(o->store, o->data, offset, size);
    else if (o->begin[file] + offset + size <= o->tail_from)
        o->store->ahead(o->store, o->meta, o->begin[file] + offset, size);
}

static enum kl_code read_footer(struct stored *o, uint64_t seed, uint64_t whole, struct kl_err *err)
{
    const uint8_t *at = o->tail + o->tail_size - FOOTER;
    uint64_t       check, sum = FOOTER;

    memcpy(&check, at + FOOTER - 8, 8);
    if (memcmp(at, "KOAm", 4) != 0 || check != kl_hash64_seed(at, FOOTER - 8, seed))
        return kl_fail(err, KL_ECORRUPT, "meta: checksum of the footer does not match");
    if (memcmp(at + 4, "\1\0\0\0", 4) != 0)
        return kl_fail(err, KL_ECORRUPT, "meta: version %u, which this program does not know", at[4]);
    for (unsigned i = 0; i < PACKED; i++) {
        memcpy(&o->size[i], at + 8 + 8 * i, 8);
        if (o->size[i] > whole)
            return kl_fail(err, KL_ECORRUPT, "meta: a part larger than the whole");
        o->begin[i] = sum - FOOTER;
        sum += o->size[i];
    }
    if (sum != whole)
        return kl_fail(err, KL_ECORRUPT, "meta: %llu bytes, not %llu", (unsigned long long)whole,
                       (unsigned long long)sum);
    return KL_OK;
}

static enum kl_code open_meta(struct stored *o, uint64_t seed, struct blk_bytes *opening,
                              struct kl_err *err)
{
    uint64_t     whole;
    enum kl_code code = o->store->head(o->store, o->meta, &whole, err);

    opening->requests++;
    if (code == KL_ENOENT)
        return kl_fail(err, KL_ECORRUPT, "meta: missing");
    if (code != KL_OK)
        return code;
    if (whole < FOOTER || whole > (uint64_t)1 << 40)
        return kl_fail(err, KL_ECORRUPT, "meta: of an impossible size");
    o->tail_size = whole < TAIL ? whole : TAIL;
    o->tail_from = whole - o->tail_size;
    o->tail = kl_resize(NULL, o->tail_size);
    code = get(o->store, o->meta, whole, o->tail_from, o->tail, o->tail_size, opening, err);
    return code == KL_OK ? read_footer(o, seed, whole, err) : kl_within(err, "meta");
}

enum kl_code blk_source_store(struct kl_store *store, const struct blk_info *named,
                              struct blk_digest d[BLK_FILES], struct blk_bytes *opening,
                              struct blk_source **s, struct kl_err *err)
{
    struct stored *o = kl_new(sizeof *o);
    struct kl_store_tally t = { 0 };
    uint64_t       seed = blk_seed(named), size;
    char           path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    uint8_t        checkpoint[64], digests[4096];
    enum kl_code   code;

    opening->requests++;                               /* the question for its size */
    o->source.read = stored_read;
    o->source.close = stored_close;
    o->source.ahead = store->ahead != NULL ? stored_ahead : NULL;
    o->source.near_bytes = NEAR;
    o->source.percent_max = PERCENT_MAX;
    o->source.memory_bytes = sizeof *o + TAIL;
    o->store = store;
    blk_fileset_path(named, path);
    key_of(path, "data", o->data);
    key_of(path, "meta", o->meta);
    key_of(path, "checkpoint", key);
    /* The checkpoint's size is known; a longer one would pass as its beginning. */
    code = store->head(store, key, &size, err);
    if (code == KL_OK && size != BLK_CHECKPOINT_SIZE)
        code = kl_fail(err, KL_ECORRUPT, "checkpoint: of the wrong size");
    if (code == KL_OK)
        code = kl_store_get(store, key, 0, checkpoint, size, &t, err);
    add(opening, &t);
    if (code == KL_OK)
        code = open_meta(o, seed, opening, err);
    if (code == KL_OK) {
        size = o->size[PACKED_DIGESTS];
        if (size > sizeof digests)
            code = kl_fail(err, KL_ECORRUPT, "digests: larger than they can be");
        else                                           /* always in the tail */
            memcpy(digests, o->tail + o->tail_size - FOOTER - size, size);
    }
    if (code == KL_OK)
        code = blk_checkpoint_check(kl_span(checkpoint, BLK_CHECKPOINT_SIZE), kl_span(digests, size),
                                    seed, err);
    if (code == KL_OK)
        code = blk_digests_read(kl_span(digests, size), d, err);
    for (unsigned i = 0; code == KL_OK && i < BLK_DATA; i++)
        if (d[i].size != o->size[i])
            code = kl_fail(err, KL_ECORRUPT, "%s: of the wrong size", blk_file_names[i]);
    if (code != KL_OK) {
        stored_close(&o->source);
        return code;
    }
    o->data_size = d[BLK_DATA].size;
    *s = &o->source;
    return KL_OK;
}

/* Put, or find the very same bytes there. */
static enum kl_code put_feed(struct kl_store *store, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    enum kl_code code = kl_store_put_from(store, key, feed, err);
    uint64_t     size;
    char        *there;

    if (code != KL_EEXIST)
        return code == KL_OK ? KL_OK : kl_within(err, "put %s", key);
    code = store->head(store, key, &size, err);
    if (code == KL_OK && size != feed->size_bytes)
        code = kl_fail(err, KL_EEXIST, "another object of that name is there");
    there = malloc(2 * COMPARE);
    if (there == NULL)
        return kl_fail(err, KL_ELIMIT, "no memory");
    for (uint64_t at = 0; code == KL_OK && at < size; at += COMPARE) {
        size_t n = size - at < COMPARE ? size - at : COMPARE;
        code = store->get(store, key, at, there, n, err);
        if (code == KL_OK)
            code = feed->read(feed->ctx, at, there + COMPARE, n, err);
        if (code == KL_OK && memcmp(there, there + COMPARE, n) != 0)
            code = kl_fail(err, KL_EEXIST, "another object of that name is there");
    }
    free(there);
    return code == KL_OK ? KL_OK : kl_within(err, "put %s", key);
}

static enum kl_code from_memory(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    (void)err;
    memcpy(bytes, (const char *)ctx + offset, size);
    return KL_OK;
}

static enum kl_code put_same(struct kl_store *store, const char *key, struct kl_span bytes,
                             struct kl_err *err)
{
    return put_feed(store, key, &(struct kl_store_feed){ .size_bytes = bytes.size, .read = from_memory,
                                                         .ctx = (void *)bytes.at }, err);
}

struct file { struct kl_env_dir *dir; struct kl_env_view *view; };

static enum kl_code from_file(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    const struct file *f = ctx;

    return f->dir->view_read(f->view, offset, bytes, size, err);
}

/* It may be large: it is read while it goes up. */
static enum kl_code put_file(struct kl_store *store, const char *key, struct kl_env_dir *dir,
                             const char *name, struct kl_err *err)
{
    struct file          f = { .dir = dir };
    struct kl_store_feed feed = { .read = from_file, .ctx = &f };
    enum kl_code         code = dir->view(dir, name, &f.view, &feed.size_bytes, err);

    if (code != KL_OK)
        return code;
    code = put_feed(store, key, &feed, err);
    dir->view_close(f.view);
    return code;
}

static enum kl_code pack_meta(struct kl_env_dir *dir, uint64_t seed, struct kl_buf *meta,
                              struct kl_err *err)
{
    uint64_t sizes[PACKED];
    size_t   from;

    for (unsigned i = 0; i < PACKED; i++) {
        const char *name = i == PACKED_DIGESTS ? "digests" : blk_file_names[i];
        void       *bytes;
        size_t      size;

        if (blk_read_small(dir, name, META_MAX, &bytes, &size, err) != KL_OK)
            return err->code;
        kl_buf_add(meta, bytes, size);
        free(bytes);
        sizes[i] = size;
    }
    from = meta->size;
    kl_buf_add(meta, "KOAm\1\0\0\0", 8);
    for (unsigned i = 0; i < PACKED; i++)
        kl_buf_add64(meta, sizes[i]);
    kl_buf_add64(meta, kl_hash64_seed(meta->at + from, FOOTER - 8, seed));
    return KL_OK;
}

static enum kl_code upload_from(struct kl_env_dir *dir, const char *path, uint64_t seed,
                                struct kl_store *store, struct kl_err *err)
{
    char         key[KL_STORE_KEY_MAX + 1];
    void        *checkpoint = NULL;
    size_t       checkpoint_size;
    struct kl_buf meta = { 0 };
    enum kl_code code = blk_read_small(dir, "checkpoint", 4096, &checkpoint, &checkpoint_size, err);

    if (code == KL_OK)
        code = pack_meta(dir, seed, &meta, err);
    if (code == KL_OK) {
        key_of(path, "data", key);
        code = put_file(store, key, dir, "data", err);
    }
    if (code == KL_OK) {
        key_of(path, "meta", key);
        code = put_same(store, key, kl_buf_span(&meta), err);
    }
    if (code == KL_OK) {
        key_of(path, "checkpoint", key);
        code = put_same(store, key, kl_span(checkpoint, checkpoint_size), err);
    }
    kl_buf_deinit(&meta);
    free(checkpoint);
    return code;
}

/* What is in the store now, as a reader will find it: the checkpoint vouches for digests, digests for
 * the small files, and data is as long as it must be. (Its bytes the store has checked when it took
 * them: S3 by their SHA-256, a folder by the sync.) */
static enum kl_code verify_stored(struct kl_store *store, const char *path, struct kl_err *err)
{
    struct blk_fileset *f;
    char                key[KL_STORE_KEY_MAX + 1];
    uint64_t            size;
    enum kl_code        code = blk_fileset_open_store(store, path, &f, err);

    if (code != KL_OK)
        return code;
    key_of(path, "data", key);
    code = store->head(store, key, &size, err);
    if (code == KL_OK && size != f->digests[BLK_DATA].size)
        code = kl_fail(err, KL_ECORRUPT, "data: %llu bytes, not %llu", (unsigned long long)size,
                       (unsigned long long)f->digests[BLK_DATA].size);
    blk_fileset_unref(f);
    return code;
}

enum kl_code blk_fileset_upload(struct kl_env_dir *root, const char *path, struct kl_store *store,
                                struct kl_err *err)
{
    struct blk_info     info;
    struct blk_folder   folder;
    struct blk_fileset *f;
    enum kl_code        code;

    /* What is uploaded has been checked, every byte: a bad disk must not spread. */
    if (blk_fileset_path_parse(path, &info, err) != KL_OK ||
        blk_fileset_open_local(root, path, &f, err) != KL_OK)
        return kl_within(err, "upload %s", path);
    code = blk_fileset_verify(f, err);
    blk_fileset_unref(f);
    if (code == KL_OK)
        code = blk_folder_enter(root, &info, false, &folder, err);
    if (code != KL_OK)
        return kl_within(err, "upload %s", path);
    code = upload_from(folder.window, path, blk_seed(&info), store, err);
    blk_folder_leave(&folder);
    if (code == KL_OK && verify_stored(store, path, err) != KL_OK)
        code = kl_within(err, "read back what was put");
    return code == KL_OK ? KL_OK : kl_within(err, "upload %s", path);
}

enum kl_code blk_fileset_remove_stored(struct kl_store *store, const char *path,
                                       struct kl_err *err)
{
    static const char *const objects[] = { "checkpoint", "meta", "data" };    /* in this order */
    char                     key[KL_STORE_KEY_MAX + 1];

    for (unsigned i = 0; i < sizeof objects / sizeof *objects; i++) {
        key_of(path, objects[i], key);
        if (store->remove(store, key, err) != KL_OK)
            return kl_within(err, "remove fileset %s", path);
    }
    return KL_OK;
}
