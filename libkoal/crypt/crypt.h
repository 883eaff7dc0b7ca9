#ifndef KL_CRYPT_H
#define KL_CRYPT_H
/*
 * Cryptography, over OpenSSL's libcrypto (crypt.c, the one file of this module that knows it): digests,
 * AES-256-GCM, random bytes, and comparing and wiping what is secret. Plain functions, any thread. What
 * libcrypto itself cannot do (no memory, no entropy) aborts: there is no going on without.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

enum { KL_SHA256 = 32, KL_AES_KEY = 32, KL_GCM_NONCE = 12, KL_GCM_TAG = 16 };

void kl_sha256(struct kl_span bytes, uint8_t digest[KL_SHA256]);
void kl_hmac_sha256(struct kl_span key, struct kl_span bytes, uint8_t digest[KL_SHA256]);
void kl_random(void *out, size_t size);                /* from the system: fit for keys */
/* Takes as long wherever they differ. */
bool kl_equal(const void *a, const void *b, size_t size);
void kl_wipe(void *at, size_t size);                   /* which no compiler leaves out */

/* `out` holds size + KL_GCM_TAG bytes: the tag lies behind. A nonce serves a key once. `aad` is bound to
 * it and not stored. */
void kl_gcm_seal(const uint8_t key[KL_AES_KEY], const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad,
                 const void *plain, size_t size, uint8_t *out);
/* `size` counts the tag; `out` holds size - KL_GCM_TAG bytes. False: not what was sealed, and `out` is
 * not to be looked at. */
bool kl_gcm_open(const uint8_t key[KL_AES_KEY], const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad,
                 const void *sealed, size_t size, uint8_t *out);

/* The same with one key again and again, in one direction, without a key's set-up each time: for small
 * frames. One thread at a time. */
struct kl_gcm;
struct kl_gcm *kl_gcm_new(const uint8_t key[KL_AES_KEY], bool seals);
void kl_gcm_free(struct kl_gcm *g);                    /* NULL is fine; wipes */
void kl_gcm_seal_next(struct kl_gcm *g, const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad, const void *plain,
                      size_t size, uint8_t *out);
bool kl_gcm_open_next(struct kl_gcm *g, const uint8_t nonce[KL_GCM_NONCE], struct kl_span aad, const void *sealed,
                      size_t size, uint8_t *out);
#endif
