#ifndef KL_STORE_SEALED_H
#define KL_STORE_SEALED_H
/*
 * A store whose objects are encrypted where they lie: AES-256-GCM in frames, so that a range is read by
 * itself. It is chosen for a store that is empty, and then for all of it.
 *
 *   catalogue/sealed-0001   "koalemos sealed 1 <id> <nonce> <store key>\n": the store's own key, wrapped by the
 *                           operator's: id is the first 8 bytes of SHA-256("koalemos key" operator's key), nonce
 *                           12 bytes, the store key 32 and a tag of 16, all in hex. The highest number holds.
 *   any other object        a header, and frames:
 *
 *     header   "KOASEAL1"  u64 plain size, little-endian  32 bytes salt  16 bytes of HMAC-SHA256(object key,
 *              all before)                                                                 64 bytes
 *     frame i  at most 65,536 plain bytes, encrypted, and a tag of 16; nonce: four zeros and u64 i;
 *              bound to u64 i and u64 plain size
 *
 *   object key = HMAC-SHA256(store key, salt, name of the object)
 *
 * So each object has a key of its own, an object under another's name does not open, and neither does one
 * that was cut, put together of others, or changed: KL_EIO with words. What is seen from outside: names, sizes,
 * times. Changing the operator's key (`rewrap`) wraps the store key anew, and rewrites no object; a running
 * process keeps what it has opened.
 *
 * A range costs one small read besides, of the header, the first time; headers of KL_SEALED_HEADERS objects
 * are remembered. Any thread; its one lock is a leaf.
 */
#include "libkoal/crypt/crypt.h"
#include "libkoal/store/store.h"

enum { KL_SEALED_HEADER = 64, KL_SEALED_FRAME = 65536, KL_SEALED_HEADERS = 1024 };

/* `writes` false: makes no store key; a store without one is then empty. The key is copied. */
struct kl_store *kl_store_sealed_new(struct kl_store *inner_take, const uint8_t key[KL_AES_KEY], bool writes);
/* KL_EINVAL: another key, or objects that are not encrypted. KL_OK also for an empty store. */
enum kl_code kl_store_sealed_check(struct kl_store *s, struct kl_err *err);
/* Of the store below: from now on it opens with `to`, and no more with `from`. */
enum kl_code kl_store_sealed_rewrap(struct kl_store *inner, const uint8_t from[KL_AES_KEY],
                                    const uint8_t to[KL_AES_KEY], struct kl_err *err);
#endif
