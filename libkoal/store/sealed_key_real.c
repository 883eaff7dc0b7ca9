/* The store's own key, in the store, wrapped by the operator's. */
#include "libkoal/store/sealed_priv.h"
#include "libkoal/base/hex.h"
#include "libkoal/crypt/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "catalogue/sealed-"
enum { ID = KL_KEY_ID, NUMBERS_MAX = 9999, TEXT_MAX = 300 };

static void id_of(const uint8_t key[KL_AES_KEY], char id[2 * ID + 1])
{
    uint8_t bytes[KL_KEY_ID];

    kl_key_id(key, bytes);
    kl_hex(bytes, ID, id);
}

static void highest(void *ctx, const char *key, uint64_t size_bytes)
{
    unsigned *most = ctx, n = 0;

    (void)size_bytes;
    if (sscanf(key, PREFIX "%4u", &n) == 1 && n > *most && n <= NUMBERS_MAX)
        *most = n;
}

static enum kl_code wrap(struct kl_store *s, unsigned number, const uint8_t with[KL_AES_KEY],
                         const uint8_t store_key[KL_AES_KEY], struct kl_err *err)
{
    uint8_t nonce[KL_GCM_NONCE], sealed[KL_AES_KEY + KL_GCM_TAG];
    char    id[2 * ID + 1], nonce_hex[2 * KL_GCM_NONCE + 1], sealed_hex[2 * sizeof sealed + 1], name[40], text[TEXT_MAX];

    kl_random(nonce, sizeof nonce);
    id_of(with, id);
    kl_gcm_seal(with, nonce, kl_span_str(id), store_key, KL_AES_KEY, sealed);
    kl_hex(nonce, sizeof nonce, nonce_hex);
    kl_hex(sealed, sizeof sealed, sealed_hex);
    snprintf(name, sizeof name, PREFIX "%04u", number);
    snprintf(text, sizeof text, "koalemos sealed 1 %s %s %s\n", id, nonce_hex, sealed_hex);
    return s->put(s, name, kl_span_str(text), err);
}

/* KL_ENOENT: there is none. */
static enum kl_code unwrap(struct kl_store *s, const uint8_t with[KL_AES_KEY], uint8_t store_key[KL_AES_KEY],
                           unsigned *number, struct kl_err *err)
{
    uint8_t  nonce[KL_GCM_NONCE], sealed[KL_AES_KEY + KL_GCM_TAG];
    char     ours[2 * ID + 1], id[2 * ID + 1], nonce_hex[2 * KL_GCM_NONCE + 1], sealed_hex[2 * sizeof sealed + 1], name[40],
             text[TEXT_MAX] = "";
    uint64_t size;

    *number = 0;
    if (s->list(s, PREFIX, highest, number, err) != KL_OK)
        return err->code;
    if (*number == 0)
        return kl_fail(err, KL_ENOENT, "the store has no key");
    snprintf(name, sizeof name, PREFIX "%04u", *number);
    if (s->head(s, name, &size, err) != KL_OK)
        return err->code;
    if (size >= sizeof text)
        return kl_fail(err, KL_EINVAL, "%s is no key of a store", name);
    if (s->get(s, name, 0, text, (size_t)size, err) != KL_OK)
        return err->code;
    if (sscanf(text, "koalemos sealed 1 %16[0-9a-f] %24[0-9a-f] %96[0-9a-f]", id, nonce_hex, sealed_hex) != 3 ||
        !kl_unhex(nonce_hex, strlen(nonce_hex), nonce, sizeof nonce) ||
        !kl_unhex(sealed_hex, strlen(sealed_hex), sealed, sizeof sealed))
        return kl_fail(err, KL_EINVAL, "%s is no key of a store, or a later version's", name);
    id_of(with, ours);
    if (strcmp(id, ours) != 0)
        return kl_fail(err, KL_EINVAL, "the store is encrypted with the key %s, and store.encryption_key.file holds %s", id,
                       ours);
    return kl_gcm_open(with, nonce, kl_span_str(id), sealed, sizeof sealed, store_key) ? KL_OK
         : kl_fail(err, KL_EINVAL, "%s was changed: it does not open", name);
}

static void any(void *ctx, const char *key, uint64_t size_bytes)
{
    (void)key;
    (void)size_bytes;
    *(bool *)ctx = true;
}

enum kl_code kl_sealed_key_open(struct kl_store *s, const uint8_t with[KL_AES_KEY], bool makes,
                                uint8_t store_key[KL_AES_KEY], struct kl_err *err)
{
    unsigned     number;
    bool         used = false;
    uint8_t      fresh[KL_AES_KEY];
    enum kl_code code = unwrap(s, with, store_key, &number, err);

    if (code != KL_ENOENT)
        return code;
    if (s->list(s, "", any, &used, err) != KL_OK)
        return err->code;
    if (used)
        return kl_fail(err, KL_EINVAL, "what the store holds is not encrypted: store.encryption_key.file is for a store that "
                       "is empty");
    if (!makes)
        return kl_fail(err, KL_ENOENT, "the store is empty");
    kl_random(fresh, sizeof fresh);
    code = wrap(s, 1, with, fresh, err);
    kl_wipe(fresh, sizeof fresh);
    /* Several may begin at once: the one that was there first is everybody's. */
    return code == KL_OK || code == KL_EEXIST ? unwrap(s, with, store_key, &number, err) : code;
}

enum kl_code kl_store_sealed_rewrap(struct kl_store *s, const uint8_t from[KL_AES_KEY],
                                    const uint8_t to[KL_AES_KEY], struct kl_err *err)
{
    uint8_t      store_key[KL_AES_KEY], again[KL_AES_KEY];
    unsigned     number, now;
    char         name[40];
    enum kl_code code = unwrap(s, from, store_key, &number, err);

    if (code != KL_OK)
        return code;
    code = number == NUMBERS_MAX ? kl_fail(err, KL_ELIMIT, "the key was changed %d times", NUMBERS_MAX)
         : wrap(s, number + 1, to, store_key, err);
    if (code == KL_OK)
        code = unwrap(s, to, again, &now, err);        /* what cannot be read again replaces nothing */
    if (code == KL_OK && !kl_equal(again, store_key, KL_AES_KEY))
        code = kl_fail(err, KL_EIO, "the key that was written is another");
    for (unsigned i = 1; code == KL_OK && i <= number; i++) {
        snprintf(name, sizeof name, PREFIX "%04u", i);
        code = s->remove(s, name, err);
    }
    kl_wipe(store_key, sizeof store_key);
    kl_wipe(again, sizeof again);
    return code;
}
