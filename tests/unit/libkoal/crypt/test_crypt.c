#include "libkoal/base/hex.h"
#include "libkoal/crypt/crypt.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void is_hex(const void *bytes, size_t size, const char *hex)
{
    char text[200];

    kl_hex(bytes, size, text);
    ck_assert_str_eq(text, hex);
}

START_TEST(digests_are_those_that_were_published)
{
    uint8_t d[KL_SHA256];

    kl_sha256(kl_span_str("abc"), d);                  /* FIPS 180-4 */
    is_hex(d, sizeof d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    kl_sha256(kl_span(NULL, 0), d);
    is_hex(d, sizeof d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    kl_hmac_sha256(kl_span_str("Jefe"), kl_span_str("what do ya want for nothing?"), d);      /* RFC 4231, 2 */
    is_hex(d, sizeof d, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

START_TEST(gcm_is_that_of_the_published_vector)
{
    /* Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega). */
    uint8_t key[32], nonce[12], aad[20], plain[60], sealed[60 + KL_GCM_TAG];

    ck_assert(kl_unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", 64, key, 32));
    ck_assert(kl_unhex("cafebabefacedbaddecaf888", 24, nonce, 12));
    ck_assert(kl_unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2", 40, aad, 20));
    ck_assert(kl_unhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                       "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39", 120, plain, 60));
    kl_gcm_seal(key, nonce, kl_span(aad, 20), plain, 60, sealed);
    is_hex(sealed + 60, 16, "76fc6ece0f4e1768cddf8853bb2d551b");
    is_hex(sealed, 8, "522dc1f099567d07");
}
END_TEST

START_TEST(what_was_touched_does_not_open)
{
    uint8_t key[32] = { 1 }, nonce[12] = { 2 }, plain[50], sealed[50 + KL_GCM_TAG], out[50];

    kl_random(plain, sizeof plain);
    kl_gcm_seal(key, nonce, kl_span_str("place"), plain, sizeof plain, sealed);
    ck_assert(kl_gcm_open(key, nonce, kl_span_str("place"), sealed, sizeof sealed, out));
    ck_assert_mem_eq(out, plain, sizeof plain);
    ck_assert(!kl_gcm_open(key, nonce, kl_span_str("other"), sealed, sizeof sealed, out));
    ck_assert(!kl_gcm_open(key, nonce, kl_span_str("place"), sealed, KL_GCM_TAG - 1, out));
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1;
        ck_assert(!kl_gcm_open(key, nonce, kl_span_str("place"), sealed, sizeof sealed, out));
        sealed[i] ^= 1;
    }
    ck_assert(kl_gcm_open(key, nonce, kl_span_str("place"), sealed, sizeof sealed, out));
    kl_gcm_seal(key, nonce, kl_span(NULL, 0), NULL, 0, sealed);
    ck_assert(kl_gcm_open(key, nonce, kl_span(NULL, 0), sealed, KL_GCM_TAG, out));
}
END_TEST

START_TEST(only_whole_hex_is_read)
{
    uint8_t b[2];

    ck_assert(kl_unhex("aBcD", 4, b, 2));
    is_hex(b, 2, "abcd");
    ck_assert(!kl_unhex("abc", 3, b, 2));
    ck_assert(!kl_unhex("abcde", 5, b, 2));
    ck_assert(!kl_unhex("ab g", 4, b, 2));
    ck_assert(kl_equal("ab", "ab", 2));
    ck_assert(!kl_equal("ab", "ac", 2));
    kl_wipe(b, sizeof b);
    is_hex(b, 2, "0000");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("crypt");
    TCase *t = tcase_create("crypt");

    tcase_add_test(t, digests_are_those_that_were_published);
    tcase_add_test(t, gcm_is_that_of_the_published_vector);
    tcase_add_test(t, what_was_touched_does_not_open);
    tcase_add_test(t, only_whole_hex_is_read);
    suite_add_tcase(s, t);
    return run_suite(s);
}
