/*
 * An encrypted file, open for reading. Where its frames lie is kept as runs: stretches of frames of which all but
 * the last are full. A file that was written in one go is one run, which its last frame proves: if the frame that lies
 * where the nth of full ones would says that n full ones lie before it, then they do, since frames can hold no more.
 * Other files are walked, from frame to frame, when they are opened, and further when they have grown.
 *
 * One lock guards the runs, and a cipher that is left over from the last read; nothing is called while it is held
 * but reads of the folder below, which may be walked.
 */
#include "libkoal/crypt/vault_priv.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 16, WINDOW = 64 << 10, LEAPS = 2 };
static const uint64_t leaps[LEAPS] = { 256, 16 };      /* full frames passed over at once, where they are */

struct run { uint64_t at, stored; };
struct kl_vault_view {
    struct kl_env_dir  *dir;
    struct kl_env_view *inner;
    char                name[KL_ENV_DIR_NAME_MAX + 1];
    struct kl_keys     *keys;
    bool                plain, cut;                    /* cut: where it ends was decided; it does not grow */
    pthread_mutex_t     lock;
    bool                begun;                         /* the header was there, and is read */
    uint8_t             key[KL_AES_KEY];
    struct kl_gcm      *spare;
    bool                open;                          /* the last run's last frame is full: it may go on */
    size_t              count, room;
    struct run         *runs;
    uint64_t            end, end_stored;               /* plain, and where the next frame will lie */
    uint64_t            synced;                        /* the most that a frame on the way said */
    bool                grows;                         /* whether one was written under the file's name */
};

/* ---- the runs; under the lock, or while nobody else knows the view ---- */

static void add_frames(struct kl_vault_view *v, uint64_t count, uint32_t last_size)
{
    if (v->count == 0 || !v->open) {
        if (v->count == v->room) {
            v->room = v->room > 0 ? 2 * v->room : 4;
            v->runs = kl_resize(v->runs, v->room * sizeof *v->runs);
        }
        v->runs[v->count++] = (struct run){ .at = v->end, .stored = v->end_stored };
    }
    v->end += (count - 1) * KL_VAULT_FRAME + last_size;
    v->end_stored += (count - 1) * KL_VAULT_STORED + KL_VAULT_OVER + last_size;
    v->open = last_size == KL_VAULT_FRAME;
}

/* Where the frame lies that holds plain byte `offset`, which is below `end`. */
static struct run find(const struct kl_vault_view *v, uint64_t offset)
{
    size_t   low = 0, high = v->count;                 /* runs[low].at <= offset < runs[high].at */
    uint64_t n;

    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;

        if (v->runs[mid].at <= offset)
            low = mid;
        else
            high = mid;
    }
    n = (offset - v->runs[low].at) / KL_VAULT_FRAME;
    return (struct run){ .at = v->runs[low].at + n * KL_VAULT_FRAME, .stored = v->runs[low].stored + n * KL_VAULT_STORED };
}

/* The head of the frame at `stored`, if it can be one of `at` plain bytes before. */
static bool peek(struct kl_vault_view *v, uint64_t stored, uint64_t at, struct kl_vault_frame *f)
{
    uint8_t       head[KL_VAULT_FRAME_HEAD];
    struct kl_err unheard;

    return v->dir->view_read(v->inner, stored, head, sizeof head, &unheard) == KL_OK && kl_vault_frame_get(head, f) &&
           f->at == at;
}

static void note(struct kl_vault_view *v, const struct kl_vault_frame *f)
{
    v->grows |= f->grows;
    if (f->synced > v->synced)
        v->synced = f->synced;
}

/* As far as frames follow each other, within `limit` stored bytes. */
static void walk(struct kl_vault_view *v, uint64_t limit)
{
    struct kl_vault_frame f, far;

    while (peek(v, v->end_stored, v->end, &f) && KL_VAULT_OVER + f.size <= limit - v->end_stored) {
        uint64_t many = 1;

        note(v, &f);
        for (int i = 0; i < LEAPS && f.size == KL_VAULT_FRAME && many == 1; i++)
            if (leaps[i] * KL_VAULT_STORED < limit - v->end_stored &&
                peek(v, v->end_stored + leaps[i] * KL_VAULT_STORED, v->end + leaps[i] * KL_VAULT_FRAME, &far))
                many = leaps[i];
        add_frames(v, many, f.size);
    }
}

/* ---- opening ---- */

/* The whole frame at `stored`, as far as it lies below `limit`. */
static bool opens(struct kl_vault_view *v, struct kl_gcm *g, uint64_t stored, uint64_t limit, struct kl_vault_frame *f)
{
    uint8_t       in[KL_VAULT_STORED], out[KL_VAULT_FRAME];
    size_t        size = limit - stored < sizeof in ? (size_t)(limit - stored) : sizeof in;
    struct kl_err unheard;
    bool          right;

    if (size <= KL_VAULT_OVER || v->dir->view_read(v->inner, stored, in, size, &unheard) != KL_OK ||
        !kl_vault_frame_get(in, f) || KL_VAULT_OVER + f->size > size)
        return false;
    right = kl_vault_frame_open(g, f, in, out);
    kl_wipe(out, sizeof out);
    return right;
}

/* Whether all frames but the last are full: see above. */
static bool one_run(struct kl_vault_view *v, struct kl_gcm *g, uint64_t stored_size)
{
    uint64_t              body = stored_size - KL_VAULT_HEADER, n = body > 0 ? (body - 1) / KL_VAULT_STORED : 0;
    struct kl_vault_frame f;

    if (body == 0 || !opens(v, g, KL_VAULT_HEADER + n * KL_VAULT_STORED, stored_size, &f) ||
        f.at != n * KL_VAULT_FRAME || KL_VAULT_HEADER + n * KL_VAULT_STORED + KL_VAULT_OVER + f.size != stored_size)
        return false;
    note(v, &f);
    if (n > 0)
        add_frames(v, n, KL_VAULT_FRAME);
    add_frames(v, 1, f.size);
    return true;
}

/* Of what was not durable when the newest frame was written, what does not open was torn: there it ends. */
static void cut_torn(struct kl_vault_view *v, struct kl_gcm *g)
{
    uint64_t limit = v->end_stored;
    struct run r;

    if (!v->grows || v->synced >= v->end)
        return;
    r = find(v, v->synced);
    while (r.stored < limit) {
        struct kl_vault_frame f;

        if (!opens(v, g, r.stored, limit, &f) || f.at != r.at)
            break;
        r.at += f.size;
        r.stored += KL_VAULT_OVER + f.size;
    }
    if (r.stored >= limit)
        return;
    v->cut = true;
    v->end = r.at;
    v->end_stored = r.stored;
    while (v->count > 0 && v->runs[v->count - 1].at >= v->end)
        v->count--;
}

/* Behind the end, a frame that says that more was durable: then what is there is damage. */
static enum kl_code vouched(struct kl_vault_view *v, struct kl_gcm *g, uint64_t limit, struct kl_err *err)
{
    uint8_t     *window = kl_new(WINDOW);
    uint64_t     from = v->end_stored;
    enum kl_code code = KL_OK;

    while (code == KL_OK && from < limit && limit - from > KL_VAULT_OVER) {
        size_t size = limit - from < WINDOW ? (size_t)(limit - from) : WINDOW;

        code = v->dir->view_read(v->inner, from, window, size, err);
        for (size_t i = 0; code == KL_OK && i + KL_VAULT_OVER < size; i++) {
            struct kl_vault_frame f, whole;

            if (kl_vault_frame_get(window + i, &f) && f.grows && f.synced > v->end && f.at - v->end < limit &&
                opens(v, g, from + i, limit, &whole))
                code = kl_fail(err, KL_ECORRUPT, "it is damaged at byte %" PRIu64 ", which was durable before byte "
                               "%" PRIu64 " was written", v->end, f.at);
        }
        from += size < WINDOW ? size : WINDOW - KL_VAULT_OVER;
    }
    free(window);
    return code;
}

static enum kl_code measure(struct kl_vault_view *v, uint64_t stored, struct kl_err *err)
{
    struct kl_gcm *g = kl_gcm_new(v->key, false);
    enum kl_code   code = KL_OK;

    if (!one_run(v, g, stored))
        walk(v, stored);
    cut_torn(v, g);
    if (v->end_stored < stored)
        code = vouched(v, g, stored, err);
    v->spare = g;
    return code;
}

static bool zeros(const uint8_t *at, size_t size)
{
    while (size > 0 && at[size - 1] == 0)
        size--;
    return size == 0;
}

/* A header that a crash tore, or that is not there yet: nothing behind it was durable. */
static bool torn_head(const uint8_t *head, size_t size)
{
    return (kl_vault_is_head(head, size) || zeros(head, size < 8 ? size : 8)) &&
           (size < KL_VAULT_HEADER || zeros(head + KL_VAULT_HEADER - 16, 16));
}

/* *size bytes of the header, as many as there are; it is `begun` when it is whole. */
static enum kl_code begin(struct kl_vault_view *v, uint8_t *head, size_t size, struct kl_err *err)
{
    if (torn_head(head, size))
        return KL_OK;
    if (size < KL_VAULT_HEADER)
        return kl_fail(err, KL_ECORRUPT, "it is not encrypted, in a folder that is");
    if (kl_vault_head_read(v->keys, head, v->key, err) != KL_OK)
        return err->code;
    v->begun = true;
    v->end_stored = KL_VAULT_HEADER;
    return KL_OK;
}

static enum kl_code meet(struct kl_vault_view *v, bool looking, uint64_t stored, struct kl_err *err)
{
    uint8_t head[KL_VAULT_HEADER];
    size_t  size = stored < sizeof head ? (size_t)stored : sizeof head;

    if (size > 0 && v->dir->view_read(v->inner, 0, head, size, err) != KL_OK)
        return err->code;
    if (looking && !kl_vault_is_head(head, size)) {
        v->plain = true;
        return KL_OK;
    }
    if (begin(v, head, size, err) != KL_OK)
        return err->code;
    return v->begun ? measure(v, stored, err) : KL_OK;
}

enum kl_code kl_vault_view_open(struct kl_env_dir *raw, struct kl_keys *keys, bool looking, const char *name,
                                struct kl_vault_view **out, uint64_t *size_bytes, struct kl_err *err)
{
    struct kl_vault_view *v;
    struct kl_env_view   *inner;
    uint64_t              stored;

    if (raw->view(raw, name, &inner, &stored, err) != KL_OK)
        return err->code;
    v = kl_new(sizeof *v);
    v->dir = raw;
    v->inner = inner;
    v->keys = kl_keys_ref(keys);
    strcpy(v->name, name);                             /* fits: the folder below has looked */
    pthread_mutex_init(&v->lock, NULL);
    if (meet(v, looking, stored, err) != KL_OK) {
        kl_within(err, "%s", name);
        kl_vault_view_close(v);
        return err->code;
    }
    *out = v;
    *size_bytes = v->plain ? stored : v->end;
    return KL_OK;
}

void kl_vault_view_close(struct kl_vault_view *v)
{
    v->dir->view_close(v->inner);
    kl_gcm_free(v->spare);
    kl_keys_unref(v->keys);
    pthread_mutex_destroy(&v->lock);
    free(v->runs);
    kl_wipe(v, sizeof *v);
    free(v);
}

/* ---- reading ---- */

/* What was added since: the header too, where the file was empty. Under the lock. */
static void look_further(struct kl_vault_view *v)
{
    uint8_t       head[KL_VAULT_HEADER];
    struct kl_err unheard;

    if (!v->begun && (v->dir->view_read(v->inner, 0, head, sizeof head, &unheard) != KL_OK ||
                      begin(v, head, sizeof head, &unheard) != KL_OK))
        return;
    if (v->begun && !v->cut)
        walk(v, UINT64_MAX);
}

/* Where to begin, and how far frames are known to lie; a file that has grown is walked further, if `may_walk`. */
static bool locate(struct kl_vault_view *v, uint64_t offset, size_t size, bool may_walk, struct run *from,
                   uint64_t *limit)
{
    bool there;

    pthread_mutex_lock(&v->lock);
    if (may_walk && (offset > v->end || size > v->end - offset))
        look_further(v);
    there = offset <= v->end && size <= v->end - offset;
    if (there && size > 0)
        *from = find(v, offset);
    *limit = v->end_stored;
    pthread_mutex_unlock(&v->lock);
    return there;
}

static struct kl_gcm *cipher_take(struct kl_vault_view *v)
{
    struct kl_gcm *g;

    pthread_mutex_lock(&v->lock);
    g = v->spare;
    v->spare = NULL;
    pthread_mutex_unlock(&v->lock);
    return g != NULL ? g : kl_gcm_new(v->key, false);
}

static void cipher_give(struct kl_vault_view *v, struct kl_gcm *g)
{
    pthread_mutex_lock(&v->lock);
    if (v->spare == NULL) {
        v->spare = g;
        g = NULL;
    }
    pthread_mutex_unlock(&v->lock);
    kl_gcm_free(g);
}

struct reading {
    struct kl_vault_view *v;
    struct kl_gcm        *gcm;
    uint64_t              offset, end;                 /* of what is wanted */
    uint8_t              *to;
    struct run            next;                        /* the frame to be opened */
    bool                  at_hand;                     /* nothing is waited for */
};

static enum kl_code changed(const struct reading *r, struct kl_err *err)
{
    return kl_fail(err, KL_ECORRUPT, "%s does not open at byte %" PRIu64 ": it was changed", r->v->name, r->next.at);
}

/* One frame, out of `avail` stored bytes; *used 0: they end before it does. */
static enum kl_code open_frame(struct reading *r, const uint8_t *in, size_t avail, size_t *used, struct kl_err *err)
{
    struct kl_vault_frame f;
    uint8_t               aside[KL_VAULT_FRAME];
    bool                  whole, right;
    uint64_t              a, b;

    *used = 0;
    if (avail < KL_VAULT_OVER)
        return KL_OK;
    /* The first one holds byte `offset`, or the run that says so was made up: heads alone are not proven. */
    if (!kl_vault_frame_get(in, &f) || f.at != r->next.at || f.at + f.size <= r->offset)
        return changed(r, err);
    if (KL_VAULT_OVER + f.size > avail)
        return KL_OK;
    whole = f.at >= r->offset && f.at + f.size <= r->end;
    right = kl_vault_frame_open(r->gcm, &f, in, whole ? r->to + (f.at - r->offset) : aside);
    if (!right)
        return changed(r, err);
    if (!whole) {
        a = f.at > r->offset ? f.at : r->offset;
        b = f.at + f.size < r->end ? f.at + f.size : r->end;
        memcpy(r->to + (a - r->offset), aside + (a - f.at), (size_t)(b - a));
    }
    *used = KL_VAULT_OVER + f.size;
    r->next.at += f.size;
    r->next.stored += *used;
    return KL_OK;
}

static enum kl_code take(const struct reading *r, uint8_t *in, size_t size, struct kl_err *err)
{
    struct kl_vault_view *v = r->v;

    if (!r->at_hand)
        return v->dir->view_read(v->inner, r->next.stored, in, size, err);
    return kl_env_view_at_hand(v->dir, v->inner, r->next.stored, in, size)
         ? KL_OK : kl_fail(err, KL_EAGAIN, "%s would have to be waited for", v->name);
}

static enum kl_code read_frames(struct reading *r, uint64_t limit, struct kl_err *err)
{
    uint64_t frames = (r->end - r->next.at + KL_VAULT_FRAME - 1) / KL_VAULT_FRAME;
    size_t   room = (size_t)(frames < BATCH ? frames : BATCH) * KL_VAULT_STORED;
    uint8_t *in = kl_resize(NULL, room);
    enum kl_code code = KL_OK;

    while (code == KL_OK && r->next.at < r->end) {
        uint64_t left = limit - r->next.stored;
        size_t   size = left < room ? (size_t)left : room, used = 1;

        code = take(r, in, size, err);
        for (size_t at = 0; code == KL_OK && used > 0 && r->next.at < r->end; at += used) {
            code = open_frame(r, in + at, size - at, &used, err);
            if (code == KL_OK && used == 0 && at == 0)
                code = changed(r, err);                /* its size says more than the file holds */
        }
    }
    free(in);
    return code;
}

enum kl_code kl_vault_view_read(struct kl_vault_view *v, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    struct reading r = { .v = v, .offset = offset, .end = offset + size, .to = bytes };
    uint64_t       limit;
    enum kl_code   code;

    if (v->plain)
        return v->dir->view_read(v->inner, offset, bytes, size, err);
    if (offset > INT64_MAX - size || !locate(v, offset, size, true, &r.next, &limit))
        return kl_fail(err, KL_EIO, "%s is shorter than %" PRIu64 " bytes", v->name, offset + size);
    if (size == 0)
        return KL_OK;
    r.gcm = cipher_take(v);
    code = read_frames(&r, limit, err);
    cipher_give(v, r.gcm);
    return code;
}

bool kl_vault_view_at_hand(struct kl_vault_view *v, uint64_t offset, void *bytes, size_t size)
{
    struct reading r = { .v = v, .offset = offset, .end = offset + size, .to = bytes, .at_hand = true };
    struct kl_err  unheard;
    uint64_t       limit;
    enum kl_code   code;

    if (v->plain)
        return kl_env_view_at_hand(v->dir, v->inner, offset, bytes, size);
    if (size == 0 || v->dir->view_at_hand == NULL || offset > INT64_MAX - size ||
        !locate(v, offset, size, false, &r.next, &limit))
        return false;
    r.gcm = cipher_take(v);
    code = read_frames(&r, limit, &unheard);
    cipher_give(v, r.gcm);
    return code == KL_OK;
}
