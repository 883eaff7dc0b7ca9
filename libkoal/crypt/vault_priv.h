#ifndef KL_VAULT_PRIV_H
#define KL_VAULT_PRIV_H
/* Between the vault's files: the bytes of a file, and how one is read. */
#include "libkoal/crypt/vault.h"

enum {
    KL_VAULT_STORED = KL_VAULT_FRAME_HEAD + KL_VAULT_FRAME + KL_GCM_TAG,       /* a full frame on disk */
    KL_VAULT_OVER = KL_VAULT_FRAME_HEAD + KL_GCM_TAG
};
struct kl_vault_frame { uint32_t size; bool grows; uint64_t at, synced; };

/* vault_bytes.c; all pure */
void kl_vault_head_new(const struct kl_keys *keys, uint8_t head[KL_VAULT_HEADER], uint8_t file_key[KL_AES_KEY]);
bool kl_vault_is_head(const uint8_t *in, size_t size);         /* whether it begins as one */
/* KL_EINVAL: another's key; KL_ECORRUPT: no header, or changed. */
enum kl_code kl_vault_head_read(const struct kl_keys *keys, const uint8_t head[KL_VAULT_HEADER],
                                uint8_t file_key[KL_AES_KEY], struct kl_err *err);
void kl_vault_frame_put(uint8_t out[KL_VAULT_FRAME_HEAD], const struct kl_vault_frame *f);
/* False: no frame, whatever key it would be of. */
bool kl_vault_frame_get(const uint8_t in[KL_VAULT_FRAME_HEAD], struct kl_vault_frame *f);
/* `out` has KL_VAULT_OVER + f->size bytes; returns as many. */
size_t kl_vault_frame_seal(struct kl_gcm *g, const struct kl_vault_frame *f, const void *plain, uint8_t *out);
bool kl_vault_frame_open(struct kl_gcm *g, const struct kl_vault_frame *f, const uint8_t *stored, uint8_t *plain);
uint64_t kl_vault_plain_size(uint64_t stored);         /* where all frames but the last are full */

/* Folders at the root that are not ours to encrypt: the audit log; what a file system keeps for itself; and a cache,
 * which is by a key that nobody has any more. A tenant of that name has folders in his. */
bool kl_vault_passes_by(struct kl_env_dir *root, const char *folder);

/* vault.c: over a folder that stays the caller's, which _free does not leave. */
struct kl_env_dir *kl_vault_over(struct kl_env_dir *inner, struct kl_keys *keys);
void kl_vault_over_free(struct kl_env_dir *dir);

/* vault_view_real.c: a file of `raw`, open for reading. `looking`: it may be plain. Any thread reads. */
struct kl_vault_view;
enum kl_code kl_vault_view_open(struct kl_env_dir *raw, struct kl_keys *keys, bool looking, const char *name,
                                struct kl_vault_view **v, uint64_t *size_bytes, struct kl_err *err);
enum kl_code kl_vault_view_read(struct kl_vault_view *v, uint64_t offset, void *bytes, size_t size, struct kl_err *err);
bool kl_vault_view_at_hand(struct kl_vault_view *v, uint64_t offset, void *bytes, size_t size);
void kl_vault_view_close(struct kl_vault_view *v);
#endif
