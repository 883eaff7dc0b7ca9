#include "libkoal/store/sealed_priv.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/hash.h"

enum { SALT = 32, MAC = 16, FRAME = KL_SEALED_FRAME, STORED = FRAME + KL_GCM_TAG, AAD = 16 };
#define PLAIN_MAX ((uint64_t)1 << 50)

struct header { char name[KL_STORE_KEY_MAX + 1]; uint64_t size; uint8_t key[KL_AES_KEY]; };
struct sealed {
    struct kl_store  store;
    struct kl_store *inner;
    uint8_t          with[KL_AES_KEY];
    bool             writes;

    pthread_mutex_t  lock;                             /* of what follows */
    bool             open;
    uint8_t          key[KL_AES_KEY];
    struct header   *headers;                          /* by a hash of the name; "" where there is none */
};

static void put64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v |= (uint64_t)at[i] << 8 * i;
    return v;
}

static uint64_t stored_size(uint64_t plain)
{
    return KL_SEALED_HEADER + plain + (plain + FRAME - 1) / FRAME * KL_GCM_TAG;
}

/* False: no object of ours has that size. */
static bool plain_size(uint64_t stored, uint64_t *plain)
{
    uint64_t rest = stored - KL_SEALED_HEADER, frames = (rest + STORED - 1) / STORED;

    if (stored < KL_SEALED_HEADER || rest < frames * KL_GCM_TAG)
        return false;
    *plain = rest - frames * KL_GCM_TAG;
    return stored_size(*plain) == stored;
}

/* ---- keys ---- */

static enum kl_code bind(struct sealed *s, uint8_t key[KL_AES_KEY], struct kl_err *err)
{
    bool         open;
    enum kl_code code;

    pthread_mutex_lock(&s->lock);
    open = s->open;
    memcpy(key, s->key, KL_AES_KEY);
    pthread_mutex_unlock(&s->lock);
    if (open)
        return KL_OK;
    code = kl_sealed_key_open(s->inner, s->with, s->writes, key, err);
    if (code != KL_OK)
        return code;
    pthread_mutex_lock(&s->lock);
    s->open = true;
    memcpy(s->key, key, KL_AES_KEY);
    pthread_mutex_unlock(&s->lock);
    return KL_OK;
}

static void object_key(const uint8_t store_key[KL_AES_KEY], const uint8_t salt[SALT], const char *name,
                       uint8_t key[KL_AES_KEY])
{
    uint8_t bytes[SALT + KL_STORE_KEY_MAX];
    size_t  size = strnlen(name, KL_STORE_KEY_MAX);

    memcpy(bytes, salt, SALT);
    memcpy(bytes + SALT, name, size);
    kl_hmac_sha256(kl_span(store_key, KL_AES_KEY), kl_span(bytes, SALT + size), key);
}

static void mac_of(const uint8_t key[KL_AES_KEY], const uint8_t header[KL_SEALED_HEADER], uint8_t mac[KL_SHA256])
{
    kl_hmac_sha256(kl_span(key, KL_AES_KEY), kl_span(header, KL_SEALED_HEADER - MAC), mac);
}

static struct header *slot(struct sealed *s, const char *name)
{
    return &s->headers[kl_hash64(name, strlen(name)) % KL_SEALED_HEADERS];
}

/* The object's size and key, remembered or read. */
static enum kl_code meet(struct sealed *s, const char *name, uint64_t *size, uint8_t key[KL_AES_KEY],
                         struct kl_store_tally *t, struct kl_err *err)
{
    uint8_t        store_key[KL_AES_KEY], bytes[KL_SEALED_HEADER], mac[KL_SHA256];
    struct header *h;
    bool           known;

    if (!kl_store_key_fit(name))
        return kl_fail(err, KL_EINVAL, "\"%.100s\" is no key", name);
    if (bind(s, store_key, err) != KL_OK)
        return err->code;
    pthread_mutex_lock(&s->lock);
    h = slot(s, name);
    known = strcmp(h->name, name) == 0;
    if (known) {
        *size = h->size;
        memcpy(key, h->key, KL_AES_KEY);
    }
    pthread_mutex_unlock(&s->lock);
    if (known)
        return KL_OK;
    if (kl_store_get(s->inner, name, 0, bytes, sizeof bytes, t, err) != KL_OK)
        return err->code;
    if (memcmp(bytes, "KOASEAL1", 8) != 0)
        return kl_fail(err, KL_EIO, "object %s is not encrypted as this store's are", name);
    object_key(store_key, bytes + 16, name, key);
    mac_of(key, bytes, mac);
    *size = get64(bytes + 8);
    if (!kl_equal(mac, bytes + KL_SEALED_HEADER - MAC, MAC) || *size > PLAIN_MAX)
        return kl_fail(err, KL_EIO, "object %s does not open: it was changed, or is another's", name);
    pthread_mutex_lock(&s->lock);
    h = slot(s, name);
    strcpy(h->name, name);
    h->size = *size;
    memcpy(h->key, key, KL_AES_KEY);
    pthread_mutex_unlock(&s->lock);
    return KL_OK;
}

static void forget(struct sealed *s, const char *name)
{
    struct header *h;

    pthread_mutex_lock(&s->lock);
    h = slot(s, name);
    if (strcmp(h->name, name) == 0)
        h->name[0] = '\0';
    pthread_mutex_unlock(&s->lock);
}

static void frame_words(uint64_t index, uint64_t size, uint8_t nonce[KL_GCM_NONCE], uint8_t aad[AAD])
{
    memset(nonce, 0, KL_GCM_NONCE);
    put64(nonce + 4, index);
    put64(aad, index);
    put64(aad + 8, size);
}

/* ---- writing: what is sealed is made as it is asked for, each time the same ---- */

struct writing {
    const struct kl_store_feed *plain;
    uint8_t  header[KL_SEALED_HEADER], key[KL_AES_KEY];
};

static enum kl_code seal_frame(struct writing *w, uint64_t index, uint8_t *plain, uint8_t *out, struct kl_err *err)
{
    uint64_t from = index * FRAME, left = w->plain->size_bytes - from;
    size_t   size = left < FRAME ? (size_t)left : FRAME;
    uint8_t  nonce[KL_GCM_NONCE], aad[AAD];

    if (w->plain->read(w->plain->ctx, from, plain, size, err) != KL_OK)
        return err->code;
    frame_words(index, w->plain->size_bytes, nonce, aad);
    kl_gcm_seal(w->key, nonce, kl_span(aad, AAD), plain, size, out);
    return KL_OK;
}

static enum kl_code read_sealed(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    struct writing *w = ctx;
    uint8_t        *to = bytes, *room = kl_new(FRAME + STORED);
    enum kl_code    code = KL_OK;

    while (size > 0 && code == KL_OK) {
        const uint8_t *from;
        size_t         n;

        if (offset < KL_SEALED_HEADER) {
            from = w->header + offset;
            n = KL_SEALED_HEADER - (size_t)offset;
        } else {
            uint64_t index = (offset - KL_SEALED_HEADER) / STORED, at = (offset - KL_SEALED_HEADER) % STORED;

            code = seal_frame(w, index, room, room + FRAME, err);
            from = room + FRAME + at;
            n = STORED - (size_t)at;
        }
        if (n > size)
            n = size;
        if (code == KL_OK)
            memcpy(to, from, n);
        to += n;
        offset += n;
        size -= n;
    }
    free(room);
    return code;
}

static enum kl_code put_from(struct kl_store *st, const char *name, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    struct sealed *s = (struct sealed *)st;
    struct writing w = { .plain = feed };
    struct kl_store_feed sealed = { .size_bytes = stored_size(feed->size_bytes), .read = read_sealed, .ctx = &w };
    uint8_t        store_key[KL_AES_KEY], mac[KL_SHA256];
    enum kl_code   code;

    if (!kl_store_key_fit(name))
        return kl_fail(err, KL_EINVAL, "\"%.100s\" is no key", name);
    if (bind(s, store_key, err) != KL_OK)
        return err->code;
    memcpy(w.header, "KOASEAL1", 8);
    put64(w.header + 8, feed->size_bytes);
    kl_random(w.header + 16, SALT);                    /* a new key each time: no nonce serves twice */
    object_key(store_key, w.header + 16, name, w.key);
    mac_of(w.key, w.header, mac);
    memcpy(w.header + KL_SEALED_HEADER - MAC, mac, MAC);
    forget(s, name);
    code = kl_store_put_from(s->inner, name, &sealed, err);
    kl_wipe(&w, sizeof w);
    kl_wipe(store_key, sizeof store_key);
    return code;
}

static enum kl_code read_span(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    const struct kl_span *all = ctx;

    (void)err;
    if (size > 0)
        memcpy(bytes, (const uint8_t *)all->at + offset, size);
    return KL_OK;
}

static enum kl_code put(struct kl_store *s, const char *name, struct kl_span bytes, struct kl_err *err)
{
    return put_from(s, name, &(struct kl_store_feed){ .size_bytes = bytes.size, .read = read_span, .ctx = &bytes },
                    err);
}

/* ---- reading ---- */

static enum kl_code get_tallied(struct kl_store *st, const char *name, uint64_t offset, void *bytes, size_t size,
                                struct kl_store_tally *t, struct kl_err *err)
{
    struct sealed *s = (struct sealed *)st;
    uint8_t        key[KL_AES_KEY], *sealed, *plain, *to = bytes;
    uint64_t       whole = 0, first, last, from, until;
    enum kl_code   code = meet(s, name, &whole, key, t, err);

    if (code != KL_OK)
        return code;
    if (offset > whole || size > whole - offset)
        return kl_fail(err, KL_EIO, "get object %s: %" PRIu64 " bytes at %" PRIu64 " of %" PRIu64, name, (uint64_t)size,
                       offset, whole);
    if (size == 0)
        return KL_OK;
    first = offset / FRAME;
    last = (offset + size - 1) / FRAME;
    from = KL_SEALED_HEADER + first * STORED;
    until = KL_SEALED_HEADER + (last + 1) * STORED;
    if (until > stored_size(whole))
        until = stored_size(whole);
    sealed = malloc((size_t)(until - from));
    plain = kl_new(FRAME);
    if (sealed == NULL)
        code = kl_fail(err, KL_ELIMIT, "get object %s: no memory for %" PRIu64 " bytes", name, until - from);
    else
        code = kl_store_get(s->inner, name, from, sealed, (size_t)(until - from), t, err);
    for (uint64_t i = first; code == KL_OK && i <= last; i++) {
        uint64_t begin = i * FRAME, end = begin + FRAME < whole ? begin + FRAME : whole;
        uint64_t a = offset > begin ? offset : begin, b = offset + size < end ? offset + size : end;
        uint8_t  nonce[KL_GCM_NONCE], aad[AAD];

        frame_words(i, whole, nonce, aad);
        if (!kl_gcm_open(key, nonce, kl_span(aad, AAD), sealed + (i - first) * STORED, (size_t)(end - begin) + KL_GCM_TAG, plain))
            code = kl_fail(err, KL_EIO, "object %s does not open at byte %" PRIu64 ": it was changed", name, begin);
        else
            memcpy(to + (a - offset), plain + (a - begin), (size_t)(b - a));
    }
    if (code != KL_OK)
        forget(s, name);                               /* it may be another object of that name by now */
    free(sealed);
    free(plain);
    kl_wipe(key, sizeof key);
    return code;
}

static enum kl_code get(struct kl_store *s, const char *name, uint64_t offset, void *bytes, size_t size,
                        struct kl_err *err)
{
    struct kl_store_tally t = { 0 };

    return get_tallied(s, name, offset, bytes, size, &t, err);
}

static enum kl_code head(struct kl_store *st, const char *name, uint64_t *size_bytes, struct kl_err *err)
{
    struct sealed *s = (struct sealed *)st;
    uint8_t        store_key[KL_AES_KEY];
    uint64_t       stored;

    if (bind(s, store_key, err) != KL_OK || s->inner->head(s->inner, name, &stored, err) != KL_OK)
        return err->code;
    return plain_size(stored, size_bytes) ? KL_OK
         : kl_fail(err, KL_EIO, "object %s is not encrypted as this store's are, or was cut", name);
}

struct listing { void (*each)(void *ctx, const char *key, uint64_t size_bytes); void *ctx; };

static void pass_on(void *ctx, const char *name, uint64_t stored)
{
    struct listing *l = ctx;
    uint64_t        plain;

    if (strncmp(name, "catalogue/sealed-", 17) != 0)
        l->each(l->ctx, name, plain_size(stored, &plain) ? plain : stored);
}

static enum kl_code list(struct kl_store *st, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx, struct kl_err *err)
{
    struct sealed *s = (struct sealed *)st;
    struct listing l = { each, ctx };
    uint8_t        store_key[KL_AES_KEY];
    enum kl_code   code = bind(s, store_key, err);

    return code == KL_ENOENT ? KL_OK : code == KL_OK ? s->inner->list(s->inner, prefix, pass_on, &l, err) : code;
}

static enum kl_code remove_object(struct kl_store *st, const char *name, struct kl_err *err)
{
    struct sealed *s = (struct sealed *)st;

    if (strncmp(name, "catalogue/sealed-", 17) == 0)
        return kl_fail(err, KL_EINVAL, "%s is the store's key", name);
    forget(s, name);
    return s->inner->remove(s->inner, name, err);
}

/* ---- */

static void cancel(struct kl_store *s) { kl_store_cancel(((struct sealed *)s)->inner); }

static void close_store(struct kl_store *st)
{
    struct sealed *s = (struct sealed *)st;

    s->inner->close(s->inner);
    kl_wipe(s->headers, KL_SEALED_HEADERS * sizeof *s->headers);
    free(s->headers);
    pthread_mutex_destroy(&s->lock);
    kl_wipe(s, sizeof *s);
    free(s);
}

enum kl_code kl_store_sealed_check(struct kl_store *s, struct kl_err *err)
{
    uint8_t      key[KL_AES_KEY];
    enum kl_code code = bind((struct sealed *)s, key, err);

    kl_wipe(key, sizeof key);
    return code == KL_ENOENT ? KL_OK : code;
}

struct kl_store *kl_store_sealed_new(struct kl_store *inner, const uint8_t key[KL_AES_KEY], bool writes)
{
    struct sealed *s = kl_new(sizeof *s);

    s->store = (struct kl_store){ .put = put, .put_from = put_from, .get = get, .get_tallied = get_tallied, .head = head,
                                  .list = list, .remove = remove_object,
                                  .cancel = inner->cancel != NULL ? cancel : NULL, .close = close_store };
    s->inner = inner;
    s->writes = writes;
    memcpy(s->with, key, KL_AES_KEY);
    s->headers = kl_new(KL_SEALED_HEADERS * sizeof *s->headers);
    pthread_mutex_init(&s->lock, NULL);
    return &s->store;
}
