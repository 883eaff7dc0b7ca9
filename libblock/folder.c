/* The folders of a fileset, and what lies in them: entering, scanning, removing. */
#include "libblock/fileset_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAMES_MAX = 64 };

enum kl_code blk_folder_enter(struct kl_env_dir *root, const struct blk_info *info, bool make,
                              struct blk_folder *f, struct kl_err *err)
{
    char partition[8], window[BLK_WINDOW_NAME];

    *f = (struct blk_folder){ 0 };
    blk_folder_names(info, partition, window);
    if (root->enter(root, info->tenant, make, &f->tenant, err) != KL_OK)
        return err->code;
    if (f->tenant->enter(f->tenant, partition, make, &f->partition, err) != KL_OK ||
        f->partition->enter(f->partition, window, make, &f->window, err) != KL_OK) {
        blk_folder_leave(f);
        return err->code;
    }
    return KL_OK;
}

void blk_folder_leave(struct blk_folder *f)
{
    if (f->window != NULL)
        f->window->leave(f->window);
    if (f->partition != NULL)
        f->partition->leave(f->partition);
    if (f->tenant != NULL)
        f->tenant->leave(f->tenant);
    *f = (struct blk_folder){ 0 };
}

enum kl_code blk_read_small(struct kl_env_dir *dir, const char *name, size_t cap, void **bytes,
                            size_t *size, struct kl_err *err)
{
    enum kl_code code = dir->read(dir, name, cap, bytes, size, err);

    if (code == KL_ELIMIT)                             /* larger than any that we write */
        return kl_fail(err, KL_ECORRUPT, "%s: larger than it can be", name);
    return code == KL_OK ? KL_OK : kl_within(err, "%s", name);
}

/* The names in a folder, so that it may be changed while we go through them. */
struct names { char (*at)[KL_ENV_DIR_NAME_MAX + 1]; bool *is_dir; size_t count, room; };

static void keep_name(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct names *n = ctx;

    (void)size_bytes;
    if (strlen(name) > KL_ENV_DIR_NAME_MAX)
        return;
    if (n->count == n->room) {
        n->room = n->room ? n->room * 2 : NAMES_MAX;
        n->at = kl_resize(n->at, n->room * sizeof *n->at);
        n->is_dir = kl_resize(n->is_dir, n->room * sizeof *n->is_dir);
    }
    strcpy(n->at[n->count], name);
    n->is_dir[n->count++] = is_dir;
}

static void names_free(struct names *n)
{
    free(n->at);
    free(n->is_dir);
}

enum kl_code blk_folder_empty(struct kl_env_dir *dir, struct kl_err *err)
{
    struct names n = { 0 };
    enum kl_code code;

    /* The checkpoint goes first, for good: half a fileset must not look like a whole one. */
    code = dir->remove(dir, "checkpoint", err);
    if (code == KL_OK)
        code = dir->sync_names(dir, err);
    else if (code == KL_ENOENT)
        code = KL_OK;
    if (code == KL_OK)
        code = dir->list(dir, keep_name, &n, err);
    for (size_t i = 0; i < n.count && code == KL_OK; i++)
        if (!n.is_dir[i]) {
            code = dir->remove(dir, n.at[i], err);
            code = code == KL_ENOENT ? KL_OK : code;
        }
    names_free(&n);
    return code;
}

enum kl_code blk_fileset_remove(struct kl_env_dir *root, const char *path, struct kl_err *err)
{
    struct blk_info   info;
    struct blk_folder f;
    char              partition[8], window[BLK_WINDOW_NAME];
    enum kl_code      code;

    if (blk_fileset_path_parse(path, &info, err) != KL_OK)
        return err->code;
    if (blk_folder_enter(root, &info, false, &f, err) != KL_OK)
        return kl_within(err, "remove fileset %s", path);
    blk_folder_names(&info, partition, window);
    code = blk_folder_empty(f.window, err);
    f.window->leave(f.window);
    f.window = NULL;
    if (code == KL_OK)
        code = f.partition->remove_dir(f.partition, window, err);
    if (code == KL_OK)
        code = f.partition->sync_names(f.partition, err);
    blk_folder_leave(&f);
    return code == KL_OK ? KL_OK : kl_within(err, "remove fileset %s", path);
}

struct scan {
    void (*whole)(void *ctx, const char *path);
    void (*unfinished)(void *ctx, const char *path);
    void  *ctx;
    char   tenant[KL_ENV_DIR_NAME_MAX + 1], partition[KL_ENV_DIR_NAME_MAX + 1];
};

static enum kl_code scan_window(const struct scan *s, struct kl_env_dir *dir, const char *window,
                                struct kl_err *err)
{
    char            path[3 * (KL_ENV_DIR_NAME_MAX + 1)];
    struct blk_info ignored;
    struct kl_err   unfit;
    void           *bytes;
    size_t          size;
    enum kl_code    code;

    snprintf(path, sizeof path, "%s/%s/%s", s->tenant, s->partition, window);
    if (blk_fileset_path_parse(path, &ignored, &unfit) != KL_OK)
        return KL_OK;                                  /* not ours */
    code = dir->read(dir, "checkpoint", 4096, &bytes, &size, err);
    if (code == KL_OK)
        free(bytes);
    if (code != KL_OK && code != KL_ENOENT && code != KL_ELIMIT)
        return code;
    (code == KL_ENOENT ? s->unfinished : s->whole)(s->ctx, path);
    return KL_OK;
}

/* `depth` 0: tenants in `dir`; 1: partitions; 2: windows. */
static enum kl_code scan_level(struct scan *s, struct kl_env_dir *dir, unsigned depth,
                               struct kl_err *err)
{
    struct names n = { 0 };
    enum kl_code code = dir->list(dir, keep_name, &n, err);

    for (size_t i = 0; i < n.count && code == KL_OK; i++) {
        struct kl_env_dir *child;

        if (!n.is_dir[i])
            continue;
        code = dir->enter(dir, n.at[i], false, &child, err);
        if (code == KL_ENOENT) {                       /* removed meanwhile */
            code = KL_OK;
            continue;
        }
        if (code != KL_OK)
            break;
        if (depth == 2) {
            code = scan_window(s, child, n.at[i], err);
        } else {
            strcpy(depth == 0 ? s->tenant : s->partition, n.at[i]);
            code = scan_level(s, child, depth + 1, err);
        }
        child->leave(child);
    }
    names_free(&n);
    return code;
}

enum kl_code blk_fileset_scan(struct kl_env_dir *root,
                              void (*whole)(void *ctx, const char *path),
                              void (*unfinished)(void *ctx, const char *path), void *ctx,
                              struct kl_err *err)
{
    struct scan s = { .whole = whole, .unfinished = unfinished, .ctx = ctx };

    return scan_level(&s, root, 0, err) == KL_OK ? KL_OK : kl_within(err, "scan for filesets");
}
