#include "libkoal/crypt/keys.h"

#include "libkoal/base/hex.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct kl_keys {
    _Atomic unsigned refs;
    size_t           count;
    struct { uint8_t id[KL_KEY_ID], bytes[KL_AES_KEY]; } at[KL_KEYS_MAX];
};

void kl_key_id(const uint8_t key[KL_AES_KEY], uint8_t id[KL_KEY_ID])
{
    uint8_t bytes[12 + KL_AES_KEY], digest[KL_SHA256];

    memcpy(bytes, "koalemos key", 12);
    memcpy(bytes + 12, key, KL_AES_KEY);
    kl_sha256(kl_span(bytes, sizeof bytes), digest);
    memcpy(id, digest, KL_KEY_ID);
    kl_wipe(bytes, sizeof bytes);
}

static struct kl_keys *keys_new(void)
{
    struct kl_keys *k = kl_new(sizeof *k);

    atomic_init(&k->refs, 1);
    return k;
}

static enum kl_code add(struct kl_keys *k, const uint8_t key[KL_AES_KEY], struct kl_err *err)
{
    uint8_t id[KL_KEY_ID];

    if (k->count == KL_KEYS_MAX)
        return kl_fail(err, KL_EINVAL, "more than %d keys", KL_KEYS_MAX);
    kl_key_id(key, id);
    if (kl_keys_find(k, id) != NULL)
        return kl_fail(err, KL_EINVAL, "key %zu is one that stands before it", k->count + 1);
    memcpy(k->at[k->count].id, id, KL_KEY_ID);
    memcpy(k->at[k->count++].bytes, key, KL_AES_KEY);
    return KL_OK;
}

static enum kl_code parse(struct kl_span text, struct kl_keys *k, struct kl_err *err)
{
    const char *at = text.at, *end = at + text.size;
    uint8_t     key[KL_AES_KEY];
    unsigned    number = 0;

    if (text.size == KL_AES_KEY || (text.size == KL_AES_KEY + 1 && at[KL_AES_KEY] == '\n'))
        return add(k, text.at, err);
    while (at < end) {
        const char  *stop = memchr(at, '\n', (size_t)(end - at));
        size_t       size = (size_t)((stop != NULL ? stop : end) - at);
        enum kl_code code;

        number++;
        while (size > 0 && (at[size - 1] == '\r' || at[size - 1] == ' ' || at[size - 1] == '\t'))
            size--;
        if (size > 0 && at[0] != '#') {
            if (!kl_unhex(at, size, key, sizeof key))
                return kl_fail(err, KL_EINVAL, "line %u: a key of 64 hex digits is wanted", number);
            code = add(k, key, err);
            kl_wipe(key, sizeof key);
            if (code != KL_OK)
                return code;
        }
        at = stop != NULL ? stop + 1 : end;
    }
    return k->count > 0 ? KL_OK : kl_fail(err, KL_EINVAL, "there is no key: 64 hex digits, or 32 bytes, are wanted");
}

enum kl_code kl_keys_parse(struct kl_span text, struct kl_keys **keys, struct kl_err *err)
{
    struct kl_keys *k;
    enum kl_code    code;

    if (text.size > KL_KEYS_TEXT_MAX)
        return kl_fail(err, KL_EINVAL, "more than %d bytes are no list of keys", KL_KEYS_TEXT_MAX);
    k = keys_new();
    code = parse(text, k, err);
    if (code == KL_OK)
        *keys = k;
    else
        kl_keys_unref(k);
    return code;
}

struct kl_keys *kl_keys_random(void)
{
    struct kl_keys *k = keys_new();
    uint8_t         key[KL_AES_KEY];

    kl_random(key, sizeof key);
    add(k, key, &(struct kl_err){ 0 });
    kl_wipe(key, sizeof key);
    return k;
}

struct kl_keys *kl_keys_ref(struct kl_keys *k)
{
    if (k != NULL)
        atomic_fetch_add(&k->refs, 1);
    return k;
}

void kl_keys_unref(struct kl_keys *k)
{
    if (k == NULL || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    kl_wipe(k, sizeof *k);
    free(k);
}

size_t kl_keys_count(const struct kl_keys *k) { return k != NULL ? k->count : 0; }

const uint8_t *kl_keys_id(const struct kl_keys *k, size_t i)
{
    assert(i < kl_keys_count(k));
    return k->at[i].id;
}

const uint8_t *kl_keys_bytes(const struct kl_keys *k, size_t i)
{
    assert(i < kl_keys_count(k));
    return k->at[i].bytes;
}

const uint8_t *kl_keys_find(const struct kl_keys *k, const uint8_t id[KL_KEY_ID])
{
    for (size_t i = 0; i < kl_keys_count(k); i++)
        if (memcmp(k->at[i].id, id, KL_KEY_ID) == 0)
            return k->at[i].bytes;
    return NULL;
}
