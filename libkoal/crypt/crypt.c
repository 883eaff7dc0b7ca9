#include "libkoal/crypt/crypt.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <limits.h>
#include <stdlib.h>

static void must(bool done)
{
    if (!done)
        abort();
}

static const void *some(const void *at) { return at != NULL ? at : ""; }

void kl_sha256(struct kl_span bytes, uint8_t digest[KL_SHA256])
{
    must(EVP_Digest(some(bytes.at), bytes.size, digest, NULL, EVP_sha256(), NULL) == 1);
}

void kl_hmac_sha256(struct kl_span key, struct kl_span bytes, uint8_t digest[KL_SHA256])
{
    unsigned n = KL_SHA256;

    must(HMAC(EVP_sha256(), some(key.at), (int)key.size, some(bytes.at), bytes.size, digest, &n) != NULL);
}

void kl_random(void *out, size_t size) { must(size <= INT_MAX && RAND_bytes(out, (int)size) == 1); }

bool kl_equal(const void *a, const void *b, size_t size) { return CRYPTO_memcmp(a, b, size) == 0; }

void kl_wipe(void *at, size_t size) { OPENSSL_cleanse(at, size); }

struct kl_gcm { EVP_CIPHER_CTX *c; };

static EVP_CIPHER_CTX *keyed(const uint8_t key[KL_AES_KEY], bool seals)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

    must(c != NULL && EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, key, NULL, seals) == 1);
    return c;
}

static void seal(EVP_CIPHER_CTX *c, const uint8_t *nonce, struct kl_span aad, const void *plain, size_t size,
                 uint8_t *out)
{
    int n = 0, rest = 0;

    must(size <= INT_MAX - KL_GCM_TAG && aad.size <= INT_MAX);
    must(EVP_EncryptInit_ex(c, NULL, NULL, NULL, nonce) == 1);
    if (aad.size > 0)
        must(EVP_EncryptUpdate(c, NULL, &n, aad.at, (int)aad.size) == 1);
    if (size > 0)
        must(EVP_EncryptUpdate(c, out, &n, plain, (int)size) == 1 && (size_t)n == size);
    must(EVP_EncryptFinal_ex(c, out + size, &rest) == 1 && rest == 0);
    must(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, KL_GCM_TAG, out + size) == 1);
}

static bool unseal(EVP_CIPHER_CTX *c, const uint8_t *nonce, struct kl_span aad, const void *sealed, size_t size,
                   uint8_t *out)
{
    uint8_t tag[KL_GCM_TAG], last[KL_GCM_TAG];
    int     n = 0, rest = 0;

    size -= KL_GCM_TAG;
    for (size_t i = 0; i < KL_GCM_TAG; i++)
        tag[i] = ((const uint8_t *)sealed)[size + i];
    must(EVP_DecryptInit_ex(c, NULL, NULL, NULL, nonce) == 1);
    if (aad.size > 0)
        must(EVP_DecryptUpdate(c, NULL, &n, aad.at, (int)aad.size) == 1);
    if (size > 0)
        must(EVP_DecryptUpdate(c, out, &n, sealed, (int)size) == 1);
    must(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, KL_GCM_TAG, tag) == 1);
    return EVP_DecryptFinal_ex(c, last, &rest) == 1;
}

static bool openable(struct kl_span aad, size_t size)
{
    return size >= KL_GCM_TAG && size <= INT_MAX && aad.size <= INT_MAX;
}

void kl_gcm_seal(const uint8_t key[KL_AES_KEY], const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad,
                 const void *plain, size_t size, uint8_t *out)
{
    EVP_CIPHER_CTX *c = keyed(key, true);

    seal(c, nonce, aad, plain, size, out);
    EVP_CIPHER_CTX_free(c);
}

bool kl_gcm_open(const uint8_t key[KL_AES_KEY], const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad,
                 const void *sealed, size_t size, uint8_t *out)
{
    EVP_CIPHER_CTX *c;
    bool            right;

    if (!openable(aad, size))
        return false;
    c = keyed(key, false);
    right = unseal(c, nonce, aad, sealed, size, out);
    EVP_CIPHER_CTX_free(c);
    return right;
}

struct kl_gcm *kl_gcm_new(const uint8_t key[KL_AES_KEY], bool seals)
{
    struct kl_gcm *g = kl_new(sizeof *g);

    g->c = keyed(key, seals);
    return g;
}

void kl_gcm_free(struct kl_gcm *g)
{
    if (g == NULL)
        return;
    EVP_CIPHER_CTX_free(g->c);
    free(g);
}

void kl_gcm_seal_next(struct kl_gcm *g, const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad, const void *plain,
                      size_t size, uint8_t *out)
{
    seal(g->c, nonce, aad, plain, size, out);
}

bool kl_gcm_open_next(struct kl_gcm *g, const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad, const void *sealed,
                      size_t size, uint8_t *out)
{
    return openable(aad, size) && unseal(g->c, nonce, aad, sealed, size, out);
}
