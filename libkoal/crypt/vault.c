/* An encrypted folder: what a folder does, over one that keeps the bytes. Reading is in vault_view_real.c. */
#include "libkoal/crypt/vault_priv.h"

#include <stdlib.h>
#include <string.h>

enum { OUT_FRAMES = 16 };

struct vault {
    struct kl_env_dir  dir;
    struct kl_env_dir *inner;
    struct kl_keys    *keys;
    bool               root, looking;
};
struct kl_env_file {
    struct vault       *in;
    struct kl_env_file *inner;
    struct kl_gcm      *gcm;
    bool                failed, named, begun;          /* begun: the header is on its way */
    uint64_t            at, synced;                    /* plain bytes in frames; of these, durable */
    size_t              held, out_size;
    uint8_t             head[KL_VAULT_HEADER];
    uint8_t             plain[KL_VAULT_FRAME];         /* `held` bytes that are in no frame yet */
    uint8_t             out[OUT_FRAMES * KL_VAULT_STORED];
};

static struct vault *vault(struct kl_env_dir *dir) { return (struct vault *)dir; }

/* ---- writing ---- */

static enum kl_code create(struct kl_env_dir *dir, const char *name, struct kl_env_file **file, struct kl_err *err)
{
    struct vault       *v = vault(dir);
    struct kl_env_file *inner, *f;
    uint8_t             key[KL_AES_KEY];

    if (v->looking)
        return kl_fail(err, KL_EINVAL, "create %s: the folder is only looked at", name);
    if (v->inner->create(v->inner, name, &inner, err) != KL_OK)
        return err->code;
    f = kl_new(sizeof *f);
    f->in = v;
    f->inner = inner;
    kl_vault_head_new(v->keys, f->head, key);
    f->gcm = kl_gcm_new(key, true);
    kl_wipe(key, sizeof key);
    *file = f;
    return KL_OK;
}

static enum kl_code refuse(struct kl_err *err)
{
    return kl_fail(err, KL_EIO, "an earlier write or sync failed");
}

static enum kl_code flush_out(struct kl_env_file *f, struct kl_err *err)
{
    struct kl_env_dir *inner = f->in->inner;

    if (f->out_size == 0)
        return KL_OK;
    if (!f->begun && inner->append(f->inner, f->head, sizeof f->head, err) != KL_OK)
        f->failed = true;
    f->begun = true;
    if (!f->failed && inner->append(f->inner, f->out, f->out_size, err) != KL_OK)
        f->failed = true;
    f->out_size = 0;
    return f->failed ? err->code : KL_OK;
}

static enum kl_code add_frame(struct kl_env_file *f, const uint8_t *plain, size_t size, struct kl_err *err)
{
    struct kl_vault_frame x = { .size = (uint32_t)size, .grows = f->named, .at = f->at, .synced = f->synced };

    if (f->out_size + KL_VAULT_STORED > sizeof f->out && flush_out(f, err) != KL_OK)
        return err->code;
    f->out_size += kl_vault_frame_seal(f->gcm, &x, plain, f->out + f->out_size);
    f->at += size;
    return KL_OK;
}

/* What is held becomes a frame, however small, and all of it goes to the folder below. */
static enum kl_code flush(struct kl_env_file *f, struct kl_err *err)
{
    size_t held = f->held;

    if (f->failed)
        return refuse(err);
    f->held = 0;
    return held > 0 && add_frame(f, f->plain, held, err) != KL_OK ? err->code : flush_out(f, err);
}

static enum kl_code append(struct kl_env_file *f, const void *bytes, size_t size, struct kl_err *err)
{
    const uint8_t *at = bytes, *end = at + size;

    if (f->failed)
        return refuse(err);
    while (at < end) {
        size_t n = (size_t)(end - at);

        if (f->held == 0 && n >= KL_VAULT_FRAME) {
            if (add_frame(f, at, KL_VAULT_FRAME, err) != KL_OK)
                return err->code;
            at += KL_VAULT_FRAME;
            continue;
        }
        if (n > KL_VAULT_FRAME - f->held)
            n = KL_VAULT_FRAME - f->held;
        memcpy(f->plain + f->held, at, n);
        f->held += n;
        at += n;
        if (f->held == KL_VAULT_FRAME) {
            f->held = 0;
            if (add_frame(f, f->plain, KL_VAULT_FRAME, err) != KL_OK)
                return err->code;
        }
    }
    return f->named ? flush(f, err) : KL_OK;
}

static enum kl_code sync_file(struct kl_env_file *f, struct kl_err *err)
{
    struct kl_env_dir *inner = f->in->inner;

    if (flush(f, err) != KL_OK)
        return err->code;
    if (inner->sync(f->inner, err) != KL_OK) {
        f->failed = true;
        return err->code;
    }
    f->synced = f->at;
    return KL_OK;
}

static enum kl_code publish(struct kl_env_file *f, const char *name, struct kl_err *err)
{
    if (flush(f, err) != KL_OK || f->in->inner->publish(f->inner, name, err) != KL_OK)
        return err->code;
    f->named = true;
    return KL_OK;
}

static enum kl_code publish_new(struct kl_env_file *f, const char *name, struct kl_err *err)
{
    if (flush(f, err) != KL_OK || f->in->inner->publish_new(f->inner, name, err) != KL_OK)
        return err->code;
    f->named = true;
    return KL_OK;
}

static void close_file(struct kl_env_file *f)
{
    struct kl_err unheard;

    flush(f, &unheard);                                /* neither synced nor promised */
    f->in->inner->close(f->inner);
    kl_gcm_free(f->gcm);
    kl_wipe(f->plain, sizeof f->plain);
    free(f);
}

/* ---- reading ---- */

static enum kl_code view(struct kl_env_dir *dir, const char *name, struct kl_env_view **out, uint64_t *size_bytes,
                         struct kl_err *err)
{
    struct vault *v = vault(dir);

    return kl_vault_view_open(v->inner, v->keys, v->looking, name, (struct kl_vault_view **)out, size_bytes, err);
}

static enum kl_code view_read(struct kl_env_view *v, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    return kl_vault_view_read((struct kl_vault_view *)v, offset, bytes, size, err);
}

static bool view_at_hand(struct kl_env_view *v, uint64_t offset, void *bytes, size_t size)
{
    return kl_vault_view_at_hand((struct kl_vault_view *)v, offset, bytes, size);
}

static void view_close(struct kl_env_view *v) { kl_vault_view_close((struct kl_vault_view *)v); }

static enum kl_code read_file(struct kl_env_dir *dir, const char *name, size_t cap, void **bytes, size_t *size_bytes,
                              struct kl_err *err)
{
    struct kl_env_view *v;
    uint64_t            size;
    void               *all;
    enum kl_code        code = view(dir, name, &v, &size, err);

    if (code != KL_OK)
        return code;
    all = size <= cap ? malloc(size > 0 ? (size_t)size : 1) : NULL;
    if (size > cap)
        code = kl_fail(err, KL_ELIMIT, "%s is longer than %zu bytes", name, cap);
    else if (all == NULL)
        code = kl_fail(err, KL_ELIMIT, "no memory for the %zu bytes of %s", (size_t)size, name);
    else
        code = view_read(v, 0, all, (size_t)size, err);
    view_close(v);
    if (code != KL_OK) {
        free(all);
        return code;
    }
    *bytes = all;
    *size_bytes = (size_t)size;
    return KL_OK;
}

/* ---- names ---- */

static enum kl_code remove_file(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    return vault(dir)->inner->remove(vault(dir)->inner, name, err);
}

static enum kl_code rename_file(struct kl_env_dir *dir, const char *from, const char *to, struct kl_err *err)
{
    return vault(dir)->inner->rename(vault(dir)->inner, from, to, err);
}

static enum kl_code sync_names(struct kl_env_dir *dir, struct kl_err *err)
{
    return vault(dir)->inner->sync_names(vault(dir)->inner, err);
}

struct listing {
    void (*each)(void *ctx, const char *name, bool is_dir, uint64_t size_bytes);
    void *ctx;
    const struct vault *v;
};

/* Of a folder that is only looked at nobody knows which files are encrypted: each is asked. */
static bool sealed(const struct vault *v, const char *name)
{
    uint8_t             head[8];
    struct kl_env_view *view;
    struct kl_err       unheard;
    uint64_t            size;
    bool                is;

    if (!v->looking)
        return true;
    if (v->inner->view(v->inner, name, &view, &size, &unheard) != KL_OK)
        return false;
    is = size >= sizeof head && v->inner->view_read(view, 0, head, sizeof head, &unheard) == KL_OK &&
         kl_vault_is_head(head, sizeof head);
    v->inner->view_close(view);
    return is;
}

static void pass_on(void *ctx, const char *name, bool is_dir, uint64_t stored)
{
    struct listing *l = ctx;

    if (!l->v->root || is_dir || strcmp(name, KL_VAULT_MARK) != 0)
        l->each(l->ctx, name, is_dir, !is_dir && sealed(l->v, name) ? kl_vault_plain_size(stored) : stored);
}

static enum kl_code list(struct kl_env_dir *dir,
                         void (*each)(void *ctx, const char *name, bool is_dir, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct listing l = { .each = each, .ctx = ctx, .v = vault(dir) };

    return vault(dir)->inner->list(vault(dir)->inner, pass_on, &l, err);
}

static enum kl_code remove_dir(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    return vault(dir)->inner->remove_dir(vault(dir)->inner, name, err);
}

static enum kl_code room(struct kl_env_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes, struct kl_err *err)
{
    return vault(dir)->inner->room(vault(dir)->inner, free_bytes, total_bytes, err);
}

static enum kl_code lock(struct kl_env_dir *dir, struct kl_err *err)
{
    return vault(dir)->inner->lock(vault(dir)->inner, err);
}

void kl_vault_over_free(struct kl_env_dir *dir)
{
    kl_keys_unref(vault(dir)->keys);
    free(vault(dir));
}

static void leave(struct kl_env_dir *dir)
{
    vault(dir)->inner->leave(vault(dir)->inner);
    kl_vault_over_free(dir);
}

static enum kl_code enter(struct kl_env_dir *dir, const char *name, bool make, struct kl_env_dir **child,
                          struct kl_err *err);

static struct kl_env_dir *made(struct kl_env_dir *inner, struct kl_keys *keys, bool root, bool looking)
{
    struct vault *v = kl_new(sizeof *v);

    v->dir = (struct kl_env_dir){
        .create = create, .append = append, .sync = sync_file, .publish = publish, .publish_new = publish_new,
        .close = close_file, .read = read_file, .view = view, .view_read = view_read,
        .view_at_hand = view_at_hand, .view_close = view_close,
        .remove = remove_file, .rename = rename_file, .sync_names = sync_names, .list = list, .enter = enter,
        .leave = leave, .remove_dir = remove_dir, .room = room, .lock = lock
    };
    v->inner = inner;
    v->keys = kl_keys_ref(keys);
    v->root = root;
    v->looking = looking;
    return &v->dir;
}

static enum kl_code enter(struct kl_env_dir *dir, const char *name, bool make, struct kl_env_dir **child,
                          struct kl_err *err)
{
    struct vault      *v = vault(dir);
    struct kl_env_dir *inner;

    if (v->inner->enter(v->inner, name, make, &inner, err) != KL_OK)
        return err->code;
    *child = made(inner, v->keys, false, v->looking);
    return KL_OK;
}

struct kl_env_dir *kl_vault_new(struct kl_env_dir *inner, struct kl_keys *keys)
{
    return made(inner, keys, true, false);
}

struct kl_env_dir *kl_vault_looking(struct kl_env_dir *inner, struct kl_keys *keys)
{
    return made(inner, keys, true, true);
}

struct kl_env_dir *kl_vault_over(struct kl_env_dir *inner, struct kl_keys *keys)
{
    return made(inner, keys, false, false);
}

enum kl_code kl_vault_enter_raw(struct kl_env_dir *dir, const char *name, bool make, struct kl_env_dir **child,
                                struct kl_err *err)
{
    struct kl_env_dir *raw = dir->create == create ? vault(dir)->inner : dir;

    return raw->enter(raw, name, make, child, err);
}
