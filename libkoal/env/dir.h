#ifndef KL_ENV_DIR_H
#define KL_ENV_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/err.h"

/*
 * A folder, handed in. A file in it is written once, front to back, aside; then published:
 *
 *   create(tmp)   append ...   sync   publish(name)   close        to give up: close   remove(tmp)
 *
 * A log segment is published empty and then grows: create, publish, (append ... sync)*, close.
 *
 * Order       sync, then publish: publish makes names durable, not bytes.
 * Durability  a file's bytes once sync returns KL_OK; every change of a name so far in this folder
 *             (a new folder in it is one) once a publish or a sync_names does. read shows what was
 *             written last, durable or not.
 * Crash       of a file, its synced bytes stay; the rest is gone, cut short or zeroed. Of the
 *             changes of names since the last publish each, on its own, happened or did not:
 *             the old file of a published name is never lost before the new one is there.
 * Failure     KL_EIO, KL_ELIMIT where the disk is full, or KL_ENOENT where the name, or the folder
 *             itself, is gone. Final after a failed append or sync: that file can never be synced
 *             or published; and when it was publish that could not sync the folder, nothing in it
 *             can be published. The system forgets what it failed to write: a second sync that
 *             succeeds would prove nothing. A file may be created anew; a folder must be opened
 *             anew, and read.
 *
 * Names are ours, never a user's: 1 to KL_ENV_DIR_NAME_MAX bytes, no '/', not "." or ".."; asserted.
 * "LOCK" is the folder's own (see `lock`): it is no name for others, and no list shows it.
 * A folder may be used by several threads when they touch different names; a file for writing
 * belongs to one thread; a kl_env_view may be read by any. All are closed before their folder.
 */
enum { KL_ENV_DIR_NAME_MAX = 200 };                    /* a tenant's name is one, too */

struct kl_env_file;                                    /* opaque; open for writing */
struct kl_env_view;                                    /* opaque; open for reading at offsets */

struct kl_env_dir {
    /* An empty file, replacing one of that name. The caller closes it. */
    enum kl_code (*create)(struct kl_env_dir *dir, const char *name, struct kl_env_file **file,
                           struct kl_err *err);
    /* All of `bytes`, or a failure after some of them. */
    enum kl_code (*append)(struct kl_env_file *file, const void *bytes, size_t size_bytes,
                           struct kl_err *err);
    enum kl_code (*sync)(struct kl_env_file *file, struct kl_err *err);
    /* Rename to `name`, over a file of that name, then sync the folder.
     * After a failure `name` is the old file or the new one, whole. */
    enum kl_code (*publish)(struct kl_env_file *file, const char *name, struct kl_err *err);
    /* The same, but where the name is taken KL_EEXIST, and nothing has changed: of several who try
     * at once, in whatever process, one succeeds. */
    enum kl_code (*publish_new)(struct kl_env_file *file, const char *name, struct kl_err *err);
    void         (*close)(struct kl_env_file *file);   /* neither syncs nor removes */

    /* The whole file into a malloc'ed `*bytes` (free() it). KL_ENOENT without one, KL_ELIMIT past
     * `cap_bytes`. */
    enum kl_code (*read)(struct kl_env_dir *dir, const char *name, size_t cap_bytes, void **bytes,
                         size_t *size_bytes, struct kl_err *err);
    /* A published file, open for reading at offsets. It stays readable after a remove. */
    enum kl_code (*view)(struct kl_env_dir *dir, const char *name, struct kl_env_view **view,
                         uint64_t *size_bytes, struct kl_err *err);
    /* Exactly `size_bytes` at `offset`, else KL_EIO. Any thread. */
    enum kl_code (*view_read)(struct kl_env_view *view, uint64_t offset, void *bytes,
                              size_t size_bytes, struct kl_err *err);
    void         (*view_close)(struct kl_env_view *view);
    /* The same, if it is in memory, without waiting for the disk; false: read it where that may be waited
     * for. Any thread. NULL: never; kl_env_view_at_hand does either. */
    bool         (*view_at_hand)(struct kl_env_view *view, uint64_t offset, void *bytes,
                                 size_t size_bytes);

    /* KL_ENOENT without one. Not durable: until the next publish, a crash may bring it back. */
    enum kl_code (*remove)(struct kl_env_dir *dir, const char *name, struct kl_err *err);
    /* A file that nobody writes to gets another name, over a file of that name. KL_ENOENT without
     * one. Durable as a removal is: with the next publish or sync_names. */
    enum kl_code (*rename)(struct kl_env_dir *dir, const char *from, const char *to,
                           struct kl_err *err);
    /* Makes removals, new names and new folders durable without a publish. */
    enum kl_code (*sync_names)(struct kl_env_dir *dir, struct kl_err *err);
    /* Calls `each` for every name, files and folders, in no order, on a list read beforehand. */
    enum kl_code (*list)(struct kl_env_dir *dir,
                         void (*each)(void *ctx, const char *name, bool is_dir, uint64_t size_bytes),
                         void *ctx, struct kl_err *err);
    /* The folder `name` in this one, made if `make` and absent; else KL_ENOENT. Close it with
     * `leave`, before its parent. Two opens of one folder see the same files. */
    enum kl_code (*enter)(struct kl_env_dir *dir, const char *name, bool make,
                          struct kl_env_dir **child, struct kl_err *err);
    void         (*leave)(struct kl_env_dir *dir);
    /* An empty folder. KL_ENOENT without one, KL_EEXIST when it is not empty. */
    enum kl_code (*remove_dir)(struct kl_env_dir *dir, const char *name, struct kl_err *err);
    /* Of the file system that holds the folder. */
    enum kl_code (*room)(struct kl_env_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes,
                         struct kl_err *err);
    /* KL_EAGAIN when another process, or another open of this folder, holds it; held until the
     * folder is left, or the process dies. Only for a data root. */
    enum kl_code (*lock)(struct kl_env_dir *dir, struct kl_err *err);
};

static inline bool kl_env_view_at_hand(struct kl_env_dir *dir, struct kl_env_view *view, uint64_t offset,
                                       void *bytes, size_t size_bytes)
{
    return dir->view_at_hand != NULL && dir->view_at_hand(view, offset, bytes, size_bytes);
}

/* On disk. `make`: mkdir -p, of folders that are closed to others. KL_ENOENT when there is no folder at `path`. Close
 * with leave. */
enum kl_code kl_env_dir_real_open(const char *path, bool make, struct kl_env_dir **dir,
                                  struct kl_err *err);

/* In memory, a whole disk, empty at first; never NULL. `root` is entered and left as any folder.
 * One thread. */
struct kl_env_disk_sim;
struct kl_env_disk_sim *kl_env_disk_sim_new(void);
void                    kl_env_disk_sim_free(struct kl_env_disk_sim *disk);
struct kl_env_dir      *kl_env_disk_sim_root(struct kl_env_disk_sim *disk);   /* leave it, too */
/* The nth call from now fails, once, with `code` (KL_EIO, KL_ELIMIT); 0: none. publish counts as
 * two, its rename and its folder sync; close and leave, which cannot fail, as none. A failing
 * append leaves half of its bytes. */
void     kl_env_disk_sim_fail(struct kl_env_disk_sim *disk, uint64_t nth, enum kl_code code);
uint64_t kl_env_disk_sim_calls(const struct kl_env_disk_sim *disk);           /* so far, in all */
/* From now on room for `bytes` more; then KL_ELIMIT. UINT64_MAX: no bound. */
void     kl_env_disk_sim_room(struct kl_env_disk_sim *disk, uint64_t bytes);
/* The power fails: loses and tears, as `seed` decides, what was not durable. Handles that a killed
 * process left open are dead: every call on them fails with KL_EIO and does nothing; they are still
 * to be closed or left, before the disk is freed. */
void     kl_env_disk_sim_crash(struct kl_env_disk_sim *disk, uint64_t seed);
/* kill -9: handles are dead as above, but nothing written is lost. */
void     kl_env_disk_sim_kill(struct kl_env_disk_sim *disk);
#endif
