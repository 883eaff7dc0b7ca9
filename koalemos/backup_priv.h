#ifndef KOALEMOS_BACKUP_PRIV_H
#define KOALEMOS_BACKUP_PRIV_H
/*
 * A backup is a store of its own, a folder or a bucket:
 *
 *   <tenant>/<pppp>/<window>-<id>[.g]/data meta checkpoint     filesets, under the names they had
 *   catalogue/cell                                             whose they are
 *   backup/<made at, ms, 13 digits>/<pppp>                     a partition's manifest as of then
 *   backup/<made at>/list                                      put last: without it there is no backup
 *
 * Filesets never change, so the next backup in the same place only adds what is new. The list:
 *
 *   koalemos backup 1
 *   cell <name>
 *   manifest <partition> <XXH3-64 of its bytes, 16 hex digits>
 *   fileset <XXH3-64 of its checkpoint> <path>
 *   mark <key>                                 a block that was imported (koalemos import)
 *   end <number of the lines before> <XXH3-64 of them>
 *
 * A checkpoint vouches for the digests of all that a fileset has, so its hash binds every byte: both
 * backup and restore read back what they wrote, and check each against the digests.
 */
#include "koalemos/reach.h"

enum { BACKUP_LIST_MAX = 1 << 30, BACKUP_KEY_MAX = 64 };

/* Text of the list while it is made. */
void backup_list_begin(struct kl_buf *list, const char *cell);
void backup_list_end(struct kl_buf *list);
/* Checks its end; then calls for each line. KL_ECORRUPT with words. */
struct backup_each {
    enum kl_code (*manifest)(void *ctx, uint32_t partition, uint64_t hash, struct kl_err *err);
    enum kl_code (*fileset)(void *ctx, uint64_t hash, const char *path, struct kl_err *err);
    enum kl_code (*mark)(void *ctx, const char *key, struct kl_err *err);
    void *ctx;
};
enum kl_code backup_list_read(struct kl_span text, char cell[128], const struct backup_each *each,
                              struct kl_err *err);

void backup_key(int64_t at_ms, const char *name, char key[BACKUP_KEY_MAX]);
/* A small object, in memory: free(*bytes). KL_ELIMIT past `cap`. */
enum kl_code backup_read(struct kl_store *s, const char *key, uint64_t cap, void **bytes, size_t *size,
                         struct kl_err *err);

/* A fileset from one store into another, checkpoint last, a piece at a time; then every byte of it is read
 * back there. One that is there already with the same checkpoint only is looked at. KL_EEXIST: another of
 * that name is there. KL_ENOENT: it is not in `from` (any more). *bytes: of what was copied. */
enum kl_code backup_copy(struct kl_store *from, struct kl_store *to, const char *path, uint64_t *hash,
                         uint64_t *bytes, struct kl_err *err);
/* An object of any kind. One of the same size and bytes is kept. */
enum kl_code backup_copy_object(struct kl_store *from, struct kl_store *to, const char *key,
                                uint64_t *bytes, struct kl_err *err);
#endif
