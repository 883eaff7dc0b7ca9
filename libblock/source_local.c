/* A fileset in a folder. Data and index stay open, so that a removal does not disturb who reads. */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

enum { NEAR = 16 * 1024, PERCENT_MAX = 800 };

struct local {
    struct blk_source source;
    struct blk_folder folder;
    struct kl_env_view *views[BLK_FILES];              /* of data and index */
};

static void local_close(struct blk_source *s)
{
    struct local *l = kl_container_of(s, struct local, source);

    for (unsigned i = 0; i < BLK_FILES; i++)
        if (l->views[i] != NULL)
            l->folder.window->view_close(l->views[i]);
    blk_folder_leave(&l->folder);
    free(l);
}

static enum kl_code local_read(struct blk_source *s, enum blk_file file, uint64_t offset,
                               void *bytes, size_t size, struct blk_bytes *tally, struct kl_err *err)
{
    struct local       *l = kl_container_of(s, struct local, source);
    struct kl_env_dir  *dir = l->folder.window;
    struct kl_env_view *view;
    uint64_t            whole;
    enum kl_code        code;

    if (tally != NULL)
        tally->disk += size;
    if (l->views[file] != NULL)
        return dir->view_read(l->views[file], offset, bytes, size, err);
    code = dir->view(dir, blk_file_names[file], &view, &whole, err);
    if (code != KL_OK)
        return code;
    if (whole != offset + size)                        /* small files are read whole */
        code = kl_fail(err, KL_ECORRUPT, "%llu bytes, not %zu", (unsigned long long)whole, size);
    else
        code = dir->view_read(view, offset, bytes, size, err);
    dir->view_close(view);
    return code;
}

static enum kl_code open_view(struct local *l, enum blk_file file, uint64_t expected,
                              struct kl_err *err)
{
    struct kl_env_dir *dir = l->folder.window;
    uint64_t           size;
    enum kl_code       code = dir->view(dir, blk_file_names[file], &l->views[file], &size, err);

    if (code == KL_ENOENT)
        return kl_fail(err, KL_ECORRUPT, "%s: missing", blk_file_names[file]);
    if (code != KL_OK)
        return kl_within(err, "%s", blk_file_names[file]);
    if (size != expected)
        return kl_fail(err, KL_ECORRUPT, "%s: %llu bytes, not %llu", blk_file_names[file],
                       (unsigned long long)size, (unsigned long long)expected);
    return KL_OK;
}

enum kl_code blk_source_local(struct kl_env_dir *root, const struct blk_info *named,
                              struct blk_digest d[BLK_FILES], struct blk_source **s,
                              struct kl_err *err)
{
    struct local *l = kl_new(sizeof *l);
    void         *checkpoint = NULL, *digests = NULL;
    size_t        checkpoint_size, digests_size;
    enum kl_code  code = blk_folder_enter(root, named, false, &l->folder, err);

    l->source.read = local_read;
    l->source.close = local_close;
    l->source.near_bytes = NEAR;
    l->source.percent_max = PERCENT_MAX;
    l->source.memory_bytes = sizeof *l;
    /* Without a checkpoint there is no fileset: KL_ENOENT; without digests beside it, a corrupt one. */
    if (code == KL_OK)
        code = blk_read_small(l->folder.window, "checkpoint", 4096, &checkpoint, &checkpoint_size,
                              err);
    if (code == KL_OK) {
        code = blk_read_small(l->folder.window, "digests", 4096, &digests, &digests_size, err);
        if (code == KL_ENOENT)
            code = kl_fail(err, KL_ECORRUPT, "digests: missing");
    }
    if (code == KL_OK)
        code = blk_checkpoint_check(kl_span(checkpoint, checkpoint_size),
                                    kl_span(digests, digests_size), blk_seed(named), err);
    if (code == KL_OK)
        code = blk_digests_read(kl_span(digests, digests_size), d, err);
    if (code == KL_OK)
        code = open_view(l, BLK_INDEX, d[BLK_INDEX].size, err);
    if (code == KL_OK)
        code = open_view(l, BLK_DATA, d[BLK_DATA].size, err);
    free(checkpoint);
    free(digests);
    if (code != KL_OK) {
        local_close(&l->source);
        return code;
    }
    *s = &l->source;
    return KL_OK;
}
