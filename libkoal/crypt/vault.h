#ifndef KL_VAULT_H
#define KL_VAULT_H
/*
 * A folder whose files are encrypted where they lie, and which is used as any other (libkoal/env/dir.h): AES-256-GCM
 * in frames, so that a file grows at its end, and a range of it is read by itself.
 *
 *   an empty file is empty; any other
 *
 *     header   "KOAVLT1\n"  8 bytes id of the operator's key  32 bytes salt  16 bytes of HMAC-SHA256(file key,
 *              all before)                                                                           64 bytes
 *     frame    u32 size, 1 to 4,096; bit 31: it was written after the file had its name
 *              u64 at, of the plain bytes before it    u64 synced, of the plain bytes that were durable
 *              when it was written; all little-endian                                                20 bytes
 *              `size` bytes, encrypted, and a tag of 16; nonce: `at` and four zeros; bound to the 20 bytes before
 *
 *   file key = HMAC-SHA256(operator's key, "koalemos file" salt)
 *
 * The salt is random, so each file has a key of its own and a nonce serves once: a file is written by one process,
 * front to back, and never opened to write again. A frame is bound to its file and its place there, not to the
 * file's name, which changes: that a file is the one it should be is for what is in it to say, as it was (sizes and
 * digests of filesets, numbers and salts of log segments). What is seen from outside: names, sizes, times.
 *
 * Appends gather to whole frames until a file is synced or has its name; from then on each append is written at
 * once. `list` tells what a file of full frames holds; of a file that was synced in pieces, up to 36 bytes a piece
 * more.
 *
 * Crash    As of the folder below. A file that grew ends at the first frame that does not open, of those behind the
 *          last byte that a later frame calls durable: such a tail was torn. A frame before that byte which does
 *          not open is damage: KL_ECORRUPT, of `view` or of the reads that touch it.
 * Failure  as of any folder; besides KL_ECORRUPT: bytes are not what they were when written, or are not encrypted;
 *          KL_EINVAL: by a key that is not among ours. Both with words.
 *
 * ENCRYPTED, a file at the root, says that a folder is one, and by which keys: `kl_vault_mark`. No list shows it.
 */
#include "libkoal/crypt/keys.h"
#include "libkoal/env/dir.h"

enum { KL_VAULT_HEADER = 64, KL_VAULT_FRAME_HEAD = 20, KL_VAULT_FRAME = 4096 };
#define KL_VAULT_MARK "ENCRYPTED"

/* What is written is encrypted by the first of the keys; what is read may be by any. Takes the folder; the keys are
 * shared. Never NULL. */
struct kl_env_dir *kl_vault_new(struct kl_env_dir *inner_take, struct kl_keys *keys);
/* To look only: files may be encrypted or not, nothing can be written, and `keys` may be NULL: then what is
 * encrypted is KL_EINVAL, and the words say by which key. */
struct kl_env_dir *kl_vault_looking(struct kl_env_dir *inner_take, struct kl_keys *keys);

/* The folder `name` in it as it lies, though this one is encrypted (or is not). */
enum kl_code kl_vault_enter_raw(struct kl_env_dir *dir, const char *name, bool make, struct kl_env_dir **child,
                                struct kl_err *err);

/* ---- which folders are encrypted: vault_mark.c ---- */

struct kl_vault_mark {
    bool     whole;                                    /* false: `koalemos encrypt` was begun, and not finished */
    size_t   count;
    uint8_t  ids[KL_KEYS_MAX][KL_KEY_ID];              /* of the keys by which files in it may be encrypted */
};
/* KL_ENOENT: there is none. */
enum kl_code kl_vault_mark_read(struct kl_env_dir *raw, struct kl_vault_mark *m, struct kl_err *err);
enum kl_code kl_vault_mark_write(struct kl_env_dir *raw, const struct kl_vault_mark *m, struct kl_err *err);

/* The folder as `keys` (or NULL: none) want it, in place of `raw`, which is taken, also by a failure.
 * KL_EINVAL, with words that say what to do: a folder that is encrypted, without keys, or without one that it
 * needs; a folder that holds files which are not encrypted, with keys. `writes`: one that is empty is marked, and
 * so is a key that is new. `above`: what the folder lies in is marked: then this one need not be. */
enum kl_code kl_vault_admit(struct kl_env_dir *raw_take, struct kl_keys *keys, bool writes,
                            const struct kl_vault_mark *above, struct kl_env_dir **dir, struct kl_err *err);
/* The same of the folder at `path`, made if `make`; marks are looked for in the two folders above it, too. */
enum kl_code kl_vault_open(const char *path, bool make, struct kl_keys *keys, bool writes, struct kl_env_dir **dir,
                           struct kl_err *err);

/* ---- a folder's files, written anew: vault_change.c ---- */

struct kl_vault_file {                                 /* a path below the root; how it lies there */
    const char    *path;
    bool           encrypted;
    uint8_t        id[KL_KEY_ID];
    uint64_t       size_bytes;                         /* on disk */
};
/* Every file but the folder's own (LOCK, ENCRYPTED), those of the folders `audit` and `lost+found`, which are never
 * encrypted, of `cache`, which are by keys of their own, and those of an object storage whose objects are, by a key
 * of its own (libkoal/store/sealed.h). */
enum kl_code kl_vault_each(struct kl_env_dir *raw, void (*each)(void *ctx, const struct kl_vault_file *f), void *ctx,
                           struct kl_err *err);
struct kl_vault_change {
    struct kl_keys *keys;                              /* by the first of them; NULL: not any more */
    struct kl_keys *old;                               /* what is there may be by these; NULL: nothing is encrypted */
    void (*told)(void *ctx, const char *path, const struct kl_err *failed);     /* of each; NULL: it is done */
    void  *ctx;
    uint64_t changed, failed, bytes;                   /* counted; bytes: written */
};
/* Each file is written aside and takes the old one's name: at any time the one or the other is there. The mark says
 * `partly` from the first to the last. A folder `cache` is emptied. KL_EIO where some failed: they are as they were,
 * and it may be done again. The caller holds the folder's lock. */
enum kl_code kl_vault_rewrite(struct kl_env_dir *raw, struct kl_vault_change *c, struct kl_err *err);
#endif
