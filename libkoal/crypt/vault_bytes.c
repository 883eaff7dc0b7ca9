/* The bytes of an encrypted file: vault.h draws them. */
#include "libkoal/crypt/vault_priv.h"

#include "libkoal/base/hex.h"

#include <string.h>

enum { ID_AT = 8, SALT_AT = 16, MAC_AT = 48, SALT = 32, MAC = 16 };
#define GROWS 0x80000000u

static const char magic[8] = "KOAVLT1\n";

static void put(uint8_t *out, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *in, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)in[i] << 8 * i;
    return v;
}

static void file_key_of(const uint8_t *key, const uint8_t *head, uint8_t file_key[KL_AES_KEY])
{
    uint8_t bytes[13 + SALT];

    memcpy(bytes, "koalemos file", 13);
    memcpy(bytes + 13, head + SALT_AT, SALT);
    kl_hmac_sha256(kl_span(key, KL_AES_KEY), kl_span(bytes, sizeof bytes), file_key);
}

static void mac_of(const uint8_t file_key[KL_AES_KEY], const uint8_t *head, uint8_t mac[MAC])
{
    uint8_t digest[KL_SHA256];

    kl_hmac_sha256(kl_span(file_key, KL_AES_KEY), kl_span(head, MAC_AT), digest);
    memcpy(mac, digest, MAC);
}

void kl_vault_head_new(const struct kl_keys *keys, uint8_t head[KL_VAULT_HEADER], uint8_t file_key[KL_AES_KEY])
{
    memcpy(head, magic, sizeof magic);
    memcpy(head + ID_AT, kl_keys_id(keys, 0), KL_KEY_ID);
    kl_random(head + SALT_AT, SALT);
    file_key_of(kl_keys_bytes(keys, 0), head, file_key);
    mac_of(file_key, head, head + MAC_AT);
}

bool kl_vault_is_head(const uint8_t *in, size_t size)
{
    return size > 0 && memcmp(in, magic, size < sizeof magic ? size : sizeof magic) == 0;
}

enum kl_code kl_vault_head_read(const struct kl_keys *keys, const uint8_t head[KL_VAULT_HEADER],
                                uint8_t file_key[KL_AES_KEY], struct kl_err *err)
{
    const uint8_t *key = kl_keys_find(keys, head + ID_AT);
    uint8_t        mac[MAC];
    char           id[KL_KEY_ID_TEXT];

    if (!kl_vault_is_head(head, KL_VAULT_HEADER))
        return kl_fail(err, KL_ECORRUPT, "it is not encrypted, in a folder that is");
    kl_hex(head + ID_AT, KL_KEY_ID, id);
    if (key == NULL)
        return kl_fail(err, KL_EINVAL, "it is encrypted with the key %s, which encryption.keys.file should hold", id);
    file_key_of(key, head, file_key);
    mac_of(file_key, head, mac);
    if (kl_equal(mac, head + MAC_AT, MAC))
        return KL_OK;
    kl_wipe(file_key, KL_AES_KEY);
    return kl_fail(err, KL_ECORRUPT, "its header was changed");
}

void kl_vault_frame_put(uint8_t out[KL_VAULT_FRAME_HEAD], const struct kl_vault_frame *f)
{
    put(out, f->size | (f->grows ? GROWS : 0), 4);
    put(out + 4, f->at, 8);
    put(out + 12, f->synced, 8);
}

bool kl_vault_frame_get(const uint8_t in[KL_VAULT_FRAME_HEAD], struct kl_vault_frame *f)
{
    uint32_t size = (uint32_t)get(in, 4);

    *f = (struct kl_vault_frame){ .size = size & ~GROWS, .grows = (size & GROWS) != 0, .at = get(in + 4, 8),
                                  .synced = get(in + 12, 8) };
    return f->size > 0 && f->size <= KL_VAULT_FRAME && f->synced <= f->at && f->at < INT64_MAX;
}

static void nonce_of(const struct kl_vault_frame *f, uint8_t nonce[KL_GCM_NONCE])
{
    memset(nonce, 0, KL_GCM_NONCE);
    put(nonce, f->at, 8);
}

size_t kl_vault_frame_seal(struct kl_gcm *g, const struct kl_vault_frame *f, const void *plain, uint8_t *out)
{
    uint8_t nonce[KL_GCM_NONCE];

    nonce_of(f, nonce);
    kl_vault_frame_put(out, f);
    kl_gcm_seal_next(g, nonce, kl_span(out, KL_VAULT_FRAME_HEAD), plain, f->size, out + KL_VAULT_FRAME_HEAD);
    return KL_VAULT_OVER + f->size;
}

bool kl_vault_frame_open(struct kl_gcm *g, const struct kl_vault_frame *f, const uint8_t *stored, uint8_t *plain)
{
    uint8_t nonce[KL_GCM_NONCE];

    nonce_of(f, nonce);
    return kl_gcm_open_next(g, nonce, kl_span(stored, KL_VAULT_FRAME_HEAD), stored + KL_VAULT_FRAME_HEAD,
                            (size_t)f->size + KL_GCM_TAG, plain);
}

uint64_t kl_vault_plain_size(uint64_t stored)
{
    uint64_t body = stored > KL_VAULT_HEADER ? stored - KL_VAULT_HEADER : 0, rest = body % KL_VAULT_STORED;

    return body / KL_VAULT_STORED * KL_VAULT_FRAME + (rest > KL_VAULT_OVER ? rest - KL_VAULT_OVER : 0);
}
