/*
 * A disk in memory. A node is a file's bytes, the first `synced` of which are on disk, or a
 * folder's names. A name leads to two nodes: the one that the process sees, and the one that the
 * disk has under that name; a folder's sync makes the second the first, a crash chooses for each
 * name which of the two it will be. What hangs below a folder that was lost is lost with it.
 */
#include "libkoal/env/disk_sim.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct node;
struct name { char text[KL_ENV_DIR_NAME_MAX + 1]; struct node *seen, *down; };
struct node {
    unsigned     refs;
    bool         is_dir, removed;                      /* removed: a folder without a name */
    size_t       size, room, synced;                   /* a file's */
    char        *bytes;
    size_t       name_count, name_room;                /* a folder's */
    struct name *names;
    struct sim  *locked_by;
};

/* What is open: kept in a list, so that a crash can find it. */
struct handle { struct handle *next, **at; bool dead; };

struct sim {                                           /* an open folder */
    struct kl_env_dir dir;
    struct handle     handle;
    struct kl_env_disk_sim *disk;
    struct node      *node;
    bool              failed;
};
struct kl_env_file {
    struct handle handle;
    struct kl_env_disk_sim *disk;
    struct sim   *in;
    struct node  *node, *folder;
    bool          failed;
    char          name[KL_ENV_DIR_NAME_MAX + 1];
};
struct kl_env_view {
    struct handle handle;
    struct kl_env_disk_sim *disk;
    struct node  *node;
    char          name[KL_ENV_DIR_NAME_MAX + 1];
};
struct kl_env_disk_sim {
    struct node   *root;
    struct handle *handles;
    uint64_t       calls, fail_in, die_in, room, used;
    enum kl_code   fail_code;
};

static void point(struct kl_env_disk_sim *disk, struct node **at, struct node *n);

static void node_free(struct kl_env_disk_sim *disk, struct node *n)
{
    for (size_t i = 0; i < n->name_count; i++) {
        point(disk, &n->names[i].seen, NULL);
        point(disk, &n->names[i].down, NULL);
    }
    disk->used -= n->size;
    if (disk->room != UINT64_MAX)
        disk->room += n->size;
    free(n->names);
    free(n->bytes);
    free(n);
}

/* Makes `*at` lead to `n`; a node to which nothing leads any more is freed. */
static void point(struct kl_env_disk_sim *disk, struct node **at, struct node *n)
{
    struct node *old = *at;

    if (n != NULL)
        n->refs++;
    *at = n;
    if (old != NULL && --old->refs == 0)
        node_free(disk, old);
}

static void opened(struct kl_env_disk_sim *disk, struct handle *h)
{
    h->next = disk->handles;
    h->at = &disk->handles;
    if (h->next != NULL)
        h->next->at = &h->next;
    disk->handles = h;
}

static void closed(struct handle *h)
{
    *h->at = h->next;
    if (h->next != NULL)
        h->next->at = h->at;
}

static struct name *find(struct node *folder, const char *text)
{
    assert(text[0] != '\0' && strlen(text) <= KL_ENV_DIR_NAME_MAX && strchr(text, '/') == NULL);
    assert(strcmp(text, ".") != 0 && strcmp(text, "..") != 0 && strcmp(text, "LOCK") != 0);
    for (size_t i = 0; i < folder->name_count; i++)
        if (strcmp(folder->names[i].text, text) == 0)
            return &folder->names[i];
    return NULL;
}

static struct node *seen(struct node *folder, const char *text)
{
    struct name *n = find(folder, text);

    return n != NULL ? n->seen : NULL;
}

/* The name, added where there is none: good until the next add. */
static struct name *add(struct node *folder, const char *text)
{
    struct name *n = find(folder, text);

    if (n != NULL)
        return n;
    if (folder->name_count == folder->name_room) {
        folder->name_room = folder->name_room > 0 ? 2 * folder->name_room : 16;
        folder->names = kl_resize(folder->names, folder->name_room * sizeof *n);
    }
    n = &folder->names[folder->name_count++];
    *n = (struct name){ .seen = NULL };
    strcpy(n->text, text);                             /* fits: find asserts it */
    return n;
}

/* Drops the names that lead nowhere. */
static void sweep(struct node *folder)
{
    size_t kept = 0;

    for (size_t i = 0; i < folder->name_count; i++)
        if (folder->names[i].seen != NULL || folder->names[i].down != NULL)
            folder->names[kept++] = folder->names[i];
    folder->name_count = kept;
}

/* Counts a call; false for the one that was told to fail, and for any on a dead handle. */
static bool may(struct kl_env_disk_sim *disk, const struct handle *h, struct kl_err *err,
                const char *what, const char *name)
{
    if (h->dead) {
        kl_fail(err, KL_EIO, "%s %s: the process that opened it is dead", what, name);
        return false;
    }
    disk->calls++;
    if (disk->die_in > 0 && --disk->die_in == 0) {
        kl_env_disk_sim_kill(disk);
        kl_fail(err, KL_EIO, "%s %s: the process dies here", what, name);
        return false;
    }
    if (disk->fail_in > 0 && --disk->fail_in == 0) {
        kl_fail(err, disk->fail_code, "%s %s: failed as told", what, name);
        return false;
    }
    return true;
}

static enum kl_code refuse(struct kl_err *err, const char *name)
{
    return kl_fail(err, KL_EIO, "%s: an earlier write or sync failed", name);
}

static enum kl_code absent(struct kl_err *err, const char *what, const char *name)
{
    return kl_fail(err, KL_ENOENT, "%s %s: there is none", what, name);
}

static enum kl_code create(struct kl_env_dir *dir, const char *name, struct kl_env_file **file,
                           struct kl_err *err)
{
    struct sim         *s = (struct sim *)dir;
    struct kl_env_file *f;
    struct node        *old;

    if (!may(s->disk, &s->handle, err, "create", name))
        return err->code;
    if (s->node->removed)
        return absent(err, "create", name);
    old = seen(s->node, name);
    if (old != NULL && old->is_dir)
        return kl_fail(err, KL_EIO, "replace %s: it is a folder", name);
    f = kl_new(sizeof *f);
    f->disk = s->disk;
    f->in = s;
    strcpy(f->name, name);
    point(s->disk, &f->node, kl_new(sizeof *f->node));
    point(s->disk, &f->folder, s->node);
    point(s->disk, &add(s->node, name)->seen, f->node);
    opened(s->disk, &f->handle);
    *file = f;
    return KL_OK;
}

static enum kl_code append(struct kl_env_file *f, const void *bytes, size_t size_bytes,
                           struct kl_err *err)
{
    struct kl_env_disk_sim *disk = f->disk;
    struct node            *n = f->node;
    enum kl_code            code = KL_OK;

    if (!f->handle.dead && f->failed)
        return refuse(err, f->name);
    if (!may(disk, &f->handle, err, "write", f->name)) {
        if (f->handle.dead)
            return err->code;
        code = err->code;
        size_bytes /= 2;
    }
    if (size_bytes > disk->room) {
        size_bytes = disk->room;
        code = kl_fail(err, KL_ELIMIT, "write %s: the disk is full", f->name);
    }
    if (size_bytes > n->room - n->size) {
        n->room = 2 * n->room + size_bytes;
        n->bytes = kl_resize(n->bytes, n->room);
    }
    if (size_bytes > 0)
        memcpy(n->bytes + n->size, bytes, size_bytes);
    n->size += size_bytes;
    disk->used += size_bytes;
    if (disk->room != UINT64_MAX)
        disk->room -= size_bytes;
    f->failed = code != KL_OK;
    return code;
}

static enum kl_code sync_file(struct kl_env_file *f, struct kl_err *err)
{
    if (!f->handle.dead && f->failed)
        return refuse(err, f->name);
    if (!may(f->disk, &f->handle, err, "sync", f->name)) {
        f->failed = true;
        return err->code;
    }
    f->node->synced = f->node->size;
    return KL_OK;
}

static enum kl_code sync_names(struct kl_env_dir *dir, struct kl_err *err)
{
    struct sim *s = (struct sim *)dir;

    if (!s->handle.dead && s->failed)
        return refuse(err, "the folder");
    if (!may(s->disk, &s->handle, err, "sync", "folder")) {
        s->failed = true;
        return err->code;
    }
    for (size_t i = 0; i < s->node->name_count; i++)
        point(s->disk, &s->node->names[i].down, s->node->names[i].seen);
    sweep(s->node);
    return KL_OK;
}

static enum kl_code publish_as(struct kl_env_file *f, const char *name, bool replace,
                               struct kl_err *err)
{
    struct node *old, *mine;

    if (!f->handle.dead && (f->failed || f->in->failed))
        return refuse(err, name);
    if (!may(f->disk, &f->handle, err, "rename to", name))
        return err->code;
    mine = seen(f->folder, f->name);
    if (mine == NULL || f->folder->removed)
        return absent(err, "rename", f->name);
    assert(mine == f->node);                           /* nobody put another file in its place */
    old = seen(f->folder, name);
    if (old != NULL && !replace)
        return kl_fail(err, KL_EEXIST, "there is a %s already", name);
    if (old != NULL && old->is_dir)
        return kl_fail(err, KL_EIO, "rename to %s: it is a folder", name);
    if (strcmp(name, f->name) != 0) {
        point(f->disk, &add(f->folder, name)->seen, f->node);
        point(f->disk, &find(f->folder, f->name)->seen, NULL);
    }
    strcpy(f->name, name);
    return sync_names(&f->in->dir, err);
}

static enum kl_code publish(struct kl_env_file *f, const char *name, struct kl_err *err)
{
    return publish_as(f, name, true, err);
}

static enum kl_code publish_new(struct kl_env_file *f, const char *name, struct kl_err *err)
{
    return publish_as(f, name, false, err);
}

static void close_file(struct kl_env_file *f)
{
    closed(&f->handle);
    point(f->disk, &f->folder, NULL);
    point(f->disk, &f->node, NULL);
    free(f);
}

/* The file of that name; NULL, and why, when there is none. */
static struct node *look(struct kl_env_dir *dir, const char *name, const char *what,
                         struct kl_err *err)
{
    struct sim  *s = (struct sim *)dir;
    struct node *n;

    if (!may(s->disk, &s->handle, err, what, name))
        return NULL;
    n = seen(s->node, name);
    if (n == NULL)
        absent(err, what, name);
    else if (n->is_dir) {
        kl_fail(err, KL_EIO, "%s %s: it is a folder", what, name);
        n = NULL;
    }
    return n;
}

static enum kl_code read_file(struct kl_env_dir *dir, const char *name, size_t cap_bytes,
                              void **bytes, size_t *size_bytes, struct kl_err *err)
{
    struct node *n = look(dir, name, "read", err);
    void        *all;

    if (n == NULL)
        return err->code;
    if (n->size > cap_bytes)
        return kl_fail(err, KL_ELIMIT, "%s is longer than %zu bytes", name, cap_bytes);
    if ((all = malloc(n->size > 0 ? n->size : 1)) == NULL)
        abort();
    if (n->size > 0)
        memcpy(all, n->bytes, n->size);
    *bytes = all;
    *size_bytes = n->size;
    return KL_OK;
}

static enum kl_code view(struct kl_env_dir *dir, const char *name, struct kl_env_view **v,
                         uint64_t *size_bytes, struct kl_err *err)
{
    struct kl_env_disk_sim *disk = ((struct sim *)dir)->disk;
    struct node            *n = look(dir, name, "open", err);

    if (n == NULL)
        return err->code;
    *v = kl_new(sizeof **v);
    (*v)->disk = disk;
    strcpy((*v)->name, name);
    point(disk, &(*v)->node, n);
    opened(disk, &(*v)->handle);
    *size_bytes = n->size;
    return KL_OK;
}

static enum kl_code view_read(struct kl_env_view *v, uint64_t offset, void *bytes,
                              size_t size_bytes, struct kl_err *err)
{
    if (!may(v->disk, &v->handle, err, "read", v->name))
        return err->code;
    if (offset > v->node->size || size_bytes > v->node->size - offset)
        return kl_fail(err, KL_EIO, "%s is shorter than that", v->name);
    if (size_bytes > 0)
        memcpy(bytes, v->node->bytes + offset, size_bytes);
    return KL_OK;
}

static bool view_at_hand(struct kl_env_view *v, uint64_t offset, void *bytes, size_t size_bytes)
{
    struct kl_err err;

    return view_read(v, offset, bytes, size_bytes, &err) == KL_OK;
}

static void view_close(struct kl_env_view *v)
{
    closed(&v->handle);
    point(v->disk, &v->node, NULL);
    free(v);
}

static enum kl_code remove_file(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    struct sim *s = (struct sim *)dir;

    if (look(dir, name, "remove", err) == NULL)
        return err->code;
    point(s->disk, &find(s->node, name)->seen, NULL);
    return KL_OK;
}

static enum kl_code rename_file(struct kl_env_dir *dir, const char *from, const char *to,
                                struct kl_err *err)
{
    struct sim  *s = (struct sim *)dir;
    struct node *n = look(dir, from, "rename", err), *old;

    if (n == NULL)
        return err->code;
    old = seen(s->node, to);
    if (old != NULL && old->is_dir)
        return kl_fail(err, KL_EIO, "rename to %s: it is a folder", to);
    if (strcmp(from, to) != 0) {
        point(s->disk, &add(s->node, to)->seen, n);
        point(s->disk, &find(s->node, from)->seen, NULL);
    }
    return KL_OK;
}

static enum kl_code list(struct kl_env_dir *dir,
                         void (*each)(void *ctx, const char *name, bool is_dir,
                                      uint64_t size_bytes),
                         void *ctx, struct kl_err *err)
{
    struct sim *s = (struct sim *)dir;
    struct { char text[KL_ENV_DIR_NAME_MAX + 1]; bool is_dir; uint64_t size; } *all;
    size_t count = 0, first;

    if (!may(s->disk, &s->handle, err, "list", "folder"))
        return err->code;
    all = kl_new((s->node->name_count + 1) * sizeof *all);
    for (size_t i = 0; i < s->node->name_count; i++) {
        const struct name *n = &s->node->names[i];
        if (n->seen == NULL)
            continue;
        strcpy(all[count].text, n->text);
        all[count].is_dir = n->seen->is_dir;
        all[count++].size = n->seen->size;
    }
    /* Never the same first name twice: who counts on an order finds out here. */
    first = count > 0 ? (size_t)(s->disk->calls % count) : 0;
    for (size_t i = 0; i < count; i++) {
        size_t k = (first + i) % count;
        each(ctx, all[k].text, all[k].is_dir, all[k].size);
    }
    free(all);
    return KL_OK;
}

static enum kl_code room(struct kl_env_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes,
                         struct kl_err *err)
{
    struct sim *s = (struct sim *)dir;

    if (!may(s->disk, &s->handle, err, "measure", "the disk"))
        return err->code;
    *free_bytes = s->disk->room == UINT64_MAX ? (uint64_t)1 << 40 : s->disk->room;
    *total_bytes = *free_bytes + s->disk->used;
    return KL_OK;
}

static enum kl_code lock(struct kl_env_dir *dir, struct kl_err *err)
{
    struct sim *s = (struct sim *)dir;

    if (!may(s->disk, &s->handle, err, "lock", "folder"))
        return err->code;
    assert(s->node->locked_by != s);
    if (s->node->locked_by != NULL)
        return kl_fail(err, KL_EAGAIN, "the folder is in use by another process");
    s->node->locked_by = s;
    return KL_OK;
}

static enum kl_code remove_dir(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    struct sim  *s = (struct sim *)dir;
    struct node *n;

    if (!may(s->disk, &s->handle, err, "remove folder", name))
        return err->code;
    n = seen(s->node, name);
    if (n == NULL)
        return absent(err, "remove folder", name);
    if (!n->is_dir)
        return kl_fail(err, KL_EIO, "remove folder %s: it is a file", name);
    for (size_t i = 0; i < n->name_count; i++)
        if (n->names[i].seen != NULL)
            return kl_fail(err, KL_EEXIST, "folder %s is not empty", name);
    n->removed = true;
    point(s->disk, &find(s->node, name)->seen, NULL);
    return KL_OK;
}

static void leave(struct kl_env_dir *dir)
{
    struct sim *s = (struct sim *)dir;

    if (s->node->locked_by == s)
        s->node->locked_by = NULL;
    closed(&s->handle);
    point(s->disk, &s->node, NULL);
    free(s);
}

static enum kl_code enter(struct kl_env_dir *dir, const char *name, bool make,
                          struct kl_env_dir **child, struct kl_err *err);

static struct kl_env_dir *open_node(struct kl_env_disk_sim *disk, struct node *n)
{
    struct sim *s = kl_new(sizeof *s);

    s->disk = disk;
    point(disk, &s->node, n);
    opened(disk, &s->handle);
    s->dir = (struct kl_env_dir){
        .create = create, .append = append, .sync = sync_file, .publish = publish, .publish_new = publish_new,
        .close = close_file, .read = read_file, .view = view, .view_read = view_read,
        .view_at_hand = view_at_hand,
        .view_close = view_close, .remove = remove_file, .rename = rename_file,
        .sync_names = sync_names, .list = list,
        .enter = enter, .leave = leave, .remove_dir = remove_dir, .room = room, .lock = lock
    };
    return &s->dir;
}

static enum kl_code enter(struct kl_env_dir *dir, const char *name, bool make,
                          struct kl_env_dir **child, struct kl_err *err)
{
    struct sim  *s = (struct sim *)dir;
    struct node *n;

    if (!may(s->disk, &s->handle, err, "enter", name))
        return err->code;
    n = seen(s->node, name);
    if (n == NULL && (!make || s->node->removed))
        return absent(err, "enter", name);
    if (n == NULL) {
        n = kl_new(sizeof *n);
        n->is_dir = true;
        point(s->disk, &add(s->node, name)->seen, n);
    }
    if (!n->is_dir)
        return kl_fail(err, KL_EIO, "enter %s: it is a file", name);
    *child = open_node(s->disk, n);
    return KL_OK;
}

struct kl_env_disk_sim *kl_env_disk_sim_new(void)
{
    struct kl_env_disk_sim *disk = kl_new(sizeof *disk);
    struct node            *root = kl_new(sizeof *root);

    disk->room = UINT64_MAX;
    root->is_dir = true;
    point(disk, &disk->root, root);
    return disk;
}

void kl_env_disk_sim_free(struct kl_env_disk_sim *disk)
{
    if (disk == NULL)
        return;
    assert(disk->handles == NULL);
    point(disk, &disk->root, NULL);
    free(disk);
}

struct kl_env_dir *kl_env_disk_sim_root(struct kl_env_disk_sim *disk)
{
    return open_node(disk, disk->root);
}

void kl_env_disk_sim_fail(struct kl_env_disk_sim *disk, uint64_t nth, enum kl_code code)
{
    disk->fail_in = nth;
    disk->fail_code = code;
}

void     kl_env_disk_sim_die(struct kl_env_disk_sim *disk, uint64_t nth) { disk->die_in = nth; }
uint64_t kl_env_disk_sim_calls(const struct kl_env_disk_sim *disk) { return disk->calls; }
void     kl_env_disk_sim_room(struct kl_env_disk_sim *disk, uint64_t bytes) { disk->room = bytes; }

/* splitmix64: any seed will do, and neighbouring seeds have nothing in common. */
static uint64_t draw(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Of what was not synced all is kept, or some, and of that the end is room that no bytes came to
 * fill. */
static void tear(struct kl_env_disk_sim *disk, struct node *n, uint64_t *seed)
{
    size_t kept = n->synced + draw(seed) % (n->size - n->synced + 1);
    size_t good = n->synced + draw(seed) % (kept - n->synced + 1);

    if (draw(seed) % 3 == 0)
        kept = good = n->size;
    if (good < kept)
        memset(n->bytes + good, 0, kept - good);
    disk->used -= n->size - kept;
    if (disk->room != UINT64_MAX)
        disk->room += n->size - kept;
    n->size = n->synced = kept;
}

static void crash(struct kl_env_disk_sim *disk, struct node *folder, uint64_t *seed)
{
    for (size_t i = 0; i < folder->name_count; i++) {
        struct name *n = &folder->names[i];

        if (n->seen != n->down && draw(seed) % 2 == 0)
            point(disk, &n->seen, n->down);
        else
            point(disk, &n->down, n->seen);
        if (n->seen == NULL)
            continue;
        if (n->seen->is_dir) {
            n->seen->removed = false;
            crash(disk, n->seen, seed);
        } else
            tear(disk, n->seen, seed);
    }
    sweep(folder);
}

static void unlock(struct node *folder)
{
    folder->locked_by = NULL;
    for (size_t i = 0; i < folder->name_count; i++)
        if (folder->names[i].seen != NULL)
            unlock(folder->names[i].seen);
}

void kl_env_disk_sim_kill(struct kl_env_disk_sim *disk)
{
    for (struct handle *h = disk->handles; h != NULL; h = h->next)
        h->dead = true;
    unlock(disk->root);
    disk->fail_in = disk->die_in = 0;
}

void kl_env_disk_sim_crash(struct kl_env_disk_sim *disk, uint64_t seed)
{
    kl_env_disk_sim_kill(disk);
    crash(disk, disk->root, &seed);
}
