#ifndef KL_KEYS_H
#define KL_KEYS_H
/*
 * The operator's keys, by which what lies on disks is encrypted: the first for what is new, all of them for
 * what is there. A list of them is text, a key a line:
 *
 *   <64 hex digits>              empty lines, and lines that begin with #, are passed over
 *
 * or one key as 32 bytes. A key is told by its id, the first 8 bytes of SHA-256("koalemos key" key): that
 * is no secret. Immutable once made; shared by reference, any thread; wiped with the last one.
 */
#include <stdbool.h>

#include "libkoal/base/err.h"
#include "libkoal/crypt/crypt.h"

enum { KL_KEYS_MAX = 16, KL_KEY_ID = 8, KL_KEY_ID_TEXT = 2 * KL_KEY_ID + 1, KL_KEYS_TEXT_MAX = 4096 };

struct kl_keys;

void kl_key_id(const uint8_t key[KL_AES_KEY], uint8_t id[KL_KEY_ID]);

/* KL_EINVAL with words: no key, more than KL_KEYS_MAX, one twice, another text. */
enum kl_code kl_keys_parse(struct kl_span text, struct kl_keys **keys, struct kl_err *err);
/* One that nobody else has: for what is to be read by this process alone. */
struct kl_keys *kl_keys_random(void);
/* Out of a file; or what a command prints, which /bin/sh runs and which has a minute. The command's stderr is
 * ours. What was read is wiped. The words never hold what was read. Blocks. */
enum kl_code kl_keys_read(const char *file, struct kl_keys **keys, struct kl_err *err);
enum kl_code kl_keys_run(const char *command, struct kl_keys **keys, struct kl_err *err);

struct kl_keys *kl_keys_ref(struct kl_keys *k);        /* NULL is fine, here and below */
void   kl_keys_unref(struct kl_keys *k);
size_t kl_keys_count(const struct kl_keys *k);
const uint8_t *kl_keys_id(const struct kl_keys *k, size_t i);
const uint8_t *kl_keys_bytes(const struct kl_keys *k, size_t i);
/* The key of that id, or NULL. */
const uint8_t *kl_keys_find(const struct kl_keys *k, const uint8_t id[KL_KEY_ID]);
#endif
