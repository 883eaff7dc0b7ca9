/*
 * Keys and their watchers, in one small file that is written anew, aside, with each change. One
 * change at a time: it is on the disk before anybody hears of it. Made for the thousands of keys
 * of coordination, not for data.
 */
#include "libkoal/bus/bus_local_priv.h"

#include "libkoal/base/buf.h"
#include "libkoal/base/hash.h"
#include "libkoal/base/sorted.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "KOAKVT1\n";
enum { TABLE_BYTES_MAX = 64 << 20, KEYS_MAX = 100000 };
enum { BACKLOG_MAX = 1024 };                           /* changes one watcher may have before it */

struct item { char *key; void *value; size_t size; uint64_t revision; };
struct eye;
struct change {                                        /* on its way to one watcher */
    struct kl_env_task task;
    struct eye *eye;
    char   key[KL_BUS_KEY_MAX + 1];                    /* "": all present keys have been told */
    bool   deleted;
    size_t size;
    uint64_t revision;
    uint8_t value[];
};
struct eye {                                           /* one open kl_bus_watch */
    _Atomic unsigned refs;                             /* the list, and each change under way */
    _Atomic unsigned backlog;
    struct kl_busl_kv *kv;
    struct kl_bus_watch *watch;                        /* touched on its loop only */
    struct kl_env_loop *loop;
    struct eye *next;
    struct kl_env_task open, close, caught;
    bool closed;                                       /* by unwatch, on the watcher's loop */
    char prefix[KL_BUS_KEY_MAX + 1];
};
struct kl_busl_kv {
    struct kl_busl *bus;
    struct kl_env_loop *loop;
    struct kl_env_dir *dir;
    struct kl_env_task go, end;
    struct kl_env_timer again;                         /* while a watcher has too much before it */
    struct kl_bus_kv *first;                           /* waiting, by their `own` */
    void **last;
    struct item *items;                                /* by key */
    size_t count, room, bytes;
    uint64_t revision;
    struct eye *eyes;
    bool ending, dead;
    struct kl_err why;
};

/* ---- the table and its file ---- */

static int by_key(const void *key, const void *i) { return strcmp(key, ((const struct item *)i)->key); }

static size_t place(const struct kl_busl_kv *kv, const char *key, bool *there)
{
    return kl_sorted_place(key, kv->items, kv->count, sizeof *kv->items, by_key, there);
}

static void insert(struct kl_busl_kv *kv, size_t i, struct item item_take)
{
    kv->items = kl_sorted_grow(kv->items, &kv->count, &kv->room, sizeof *kv->items, i);
    kv->items[i] = item_take;
    kv->bytes += strlen(item_take.key) + item_take.size;
}

static struct item take_out(struct kl_busl_kv *kv, size_t i)
{
    struct item item = kv->items[i];

    kl_sorted_close(kv->items, &kv->count, sizeof *kv->items, i);
    kv->bytes -= strlen(item.key) + item.size;
    return item;
}

static void item_free(struct item item)
{
    free(item.key);
    free(item.value);
}

static enum kl_code save(struct kl_busl_kv *kv, struct kl_err *err)
{
    struct kl_buf b;
    enum kl_code code;

    kl_buf_init(&b, 2u * TABLE_BYTES_MAX);
    kl_buf_add(&b, magic, sizeof magic);
    kl_buf_add32(&b, 1);
    kl_buf_add64(&b, kv->revision);
    kl_buf_add32(&b, (uint32_t)kv->count);
    for (size_t i = 0; i < kv->count; i++) {
        kl_buf_add64(&b, kv->items[i].revision);
        kl_buf_addspan(&b, kl_span_str(kv->items[i].key));
        kl_buf_addspan(&b, kl_span(kv->items[i].value, kv->items[i].size));
    }
    kl_buf_add32(&b, kl_crc32c(0, b.at, b.size));
    assert(kl_buf_ok(&b));                             /* bytes are bounded where they come in */
    code = kl_busl_publish(kv->dir, "table.tmp", "table", kl_buf_span(&b), err);
    kl_buf_deinit(&b);
    return code;
}

static bool key_ok(const char *key, size_t size)
{
    if (size == 0 || size > KL_BUS_KEY_MAX)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!((key[i] >= 'a' && key[i] <= 'z') || (key[i] >= 'A' && key[i] <= 'Z') ||
              (key[i] >= '0' && key[i] <= '9') || strchr("_.=-", key[i]) != NULL) ||
            key[i] == '\0')
            return false;
    return true;
}

static enum kl_code parse(struct kl_busl_kv *kv, const void *bytes, size_t size,
                          struct kl_err *err)
{
    struct kl_cur c = kl_cur(bytes, size >= 4 ? size - 4 : 0), tail;
    uint32_t count;

    if (size < 28 || memcmp(bytes, magic, sizeof magic) != 0)
        return kl_fail(err, KL_ECORRUPT, "this is no table of keys");
    tail = kl_cur((const char *)bytes + size - 4, 4);
    if (kl_cur_32(&tail) != kl_crc32c(0, bytes, size - 4))
        return kl_fail(err, KL_ECORRUPT, "its checksum is wrong");
    kl_cur_bytes(&c, sizeof magic);
    if (kl_cur_32(&c) != 1)
        return kl_fail(err, KL_EINVAL, "its version is not 1");
    kv->revision = kl_cur_64(&c);
    count = kl_cur_32(&c);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t revision = kl_cur_64(&c);
        struct kl_span key = kl_cur_span(&c), value = kl_cur_span(&c);
        struct item item = { .revision = revision, .size = value.size };

        if (c.bad || !key_ok(key.at, key.size) || value.size > KL_BUS_VALUE_MAX)
            return kl_fail(err, KL_ECORRUPT, "key %u is damaged", i);
        item.key = kl_new(key.size + 1);
        memcpy(item.key, key.at, key.size);
        item.value = kl_new(value.size > 0 ? value.size : 1);
        if (value.size > 0)
            memcpy(item.value, value.at, value.size);
        if (kv->count > 0 && strcmp(kv->items[kv->count - 1].key, item.key) >= 0) {
            item_free(item);
            return kl_fail(err, KL_ECORRUPT, "its keys are out of order");
        }
        insert(kv, kv->count, item);
    }
    return kl_cur_left(&c) == 0 ? KL_OK : kl_fail(err, KL_ECORRUPT, "bytes follow its last key");
}

/* ---- watchers ---- */

static void eye_unref(struct eye *e)
{
    if (atomic_fetch_sub(&e->refs, 1) == 1)
        free(e);
}

static void on_change(struct kl_env_task *task)
{
    struct change *c = kl_container_of(task, struct change, task);
    struct eye    *e = c->eye;

    if (!e->closed && !atomic_load(&e->kv->bus->closed)) {
        if (c->key[0] == '\0')
            e->watch->current(e->watch);
        else
            e->watch->change(e->watch, c->key, kl_span(c->deleted ? NULL : c->value, c->size),
                             c->revision);
    }
    atomic_fetch_sub(&e->backlog, 1);
    free(c);
    eye_unref(e);
}

static void tell(struct eye *e, const char *key, const void *value, size_t size, bool deleted,
                 uint64_t revision)
{
    struct change *c = kl_new(sizeof *c + size);

    c->eye = e;
    strcpy(c->key, key);                               /* both are arrays of one size, or items */
    c->deleted = deleted;
    c->size = size;
    c->revision = revision;
    if (size > 0)
        memcpy(c->value, value, size);
    c->task.run = on_change;
    atomic_fetch_add(&e->refs, 1);
    atomic_fetch_add(&e->backlog, 1);
    kl_busl_post(e->kv->bus, e->loop, &c->task);
}

static bool sees(const struct eye *e, const char *key)
{
    return strncmp(e->prefix, key, strlen(e->prefix)) == 0;
}

static void on_open(struct kl_env_task *task)
{
    struct eye *e = kl_container_of(task, struct eye, open);
    struct kl_busl_kv *kv = e->kv;

    e->next = kv->eyes;
    kv->eyes = e;
    for (size_t i = 0; i < kv->count; i++)
        if (sees(e, kv->items[i].key))
            tell(e, kv->items[i].key, kv->items[i].value, kv->items[i].size, false,
                 kv->items[i].revision);
    tell(e, "", NULL, 0, false, 0);
}

static void on_close(struct kl_env_task *task)
{
    struct eye  *e = kl_container_of(task, struct eye, close);
    struct eye **at = &e->kv->eyes;

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    eye_unref(e);
}

void kl_busl_watch(struct kl_bus *bus, struct kl_bus_watch *w)
{
    struct kl_busl *b = kl_busl(bus);
    struct eye     *e;

    w->own = NULL;
    if (!kl_busl_enter(b))
        return;
    e = kl_new(sizeof *e);
    atomic_init(&e->refs, 1);
    e->kv = b->kv;
    e->watch = w;
    e->loop = w->loop;
    strcpy(e->prefix, w->prefix);
    e->open.run = on_open;
    e->close.run = on_close;
    w->own = e;
    kl_busl_post(b, b->kv->loop, &e->open);
    kl_busl_leave(b);
}

void kl_busl_unwatch(struct kl_bus *bus, struct kl_bus_watch *w)
{
    struct kl_busl *b = kl_busl(bus);
    struct eye     *e = w->own;

    if (e == NULL)
        return;
    w->own = NULL;
    e->closed = true;
    if (kl_busl_enter(b)) {
        kl_busl_post(b, b->kv->loop, &e->close);
        kl_busl_leave(b);
    }
}

/* ---- operations ---- */

static void op_done(struct kl_env_task *task)
{
    struct kl_bus_kv *op = kl_container_of(task, struct kl_bus_kv, task);

    op->done(op);
}

static void complete(struct kl_busl *b, struct kl_bus_kv *op, enum kl_code code)
{
    op->code = code;
    op->task.run = op_done;
    kl_busl_post(b, op->loop, &op->task);
}

static enum kl_code get(struct kl_busl_kv *kv, struct kl_bus_kv *op)
{
    bool   there;
    size_t i = place(kv, op->key, &there);

    if (!there)
        return kl_fail(&op->err, KL_ENOENT, "there is no key %s", op->key);
    op->got_size = kv->items[i].size;
    op->got = kl_new(op->got_size > 0 ? op->got_size : 1);
    memcpy(op->got, kv->items[i].value, op->got_size);
    op->revision = kv->items[i].revision;
    return KL_OK;
}

static enum kl_code expected(struct kl_bus_kv *op, uint64_t revision)
{
    if (op->expect == UINT64_MAX || op->expect == revision)
        return KL_OK;
    if (revision == 0)
        return kl_fail(&op->err, KL_EEXIST, "key %s is gone, not at revision %" PRIu64, op->key,
                       op->expect);
    return kl_fail(&op->err, KL_EEXIST, "key %s is at revision %" PRIu64 ", not %" PRIu64, op->key,
                   revision, op->expect);
}

/* `old` is the key's item, or NULL. A value that does not grow always has room. */
static bool has_room(const struct kl_busl_kv *kv, const struct kl_bus_kv *op, const struct item *old)
{
    if (old != NULL && op->value.size <= old->size)
        return true;
    if (old == NULL && kv->count >= KEYS_MAX)
        return false;
    return kv->bytes - (old != NULL ? old->size : 0) + (old == NULL ? strlen(op->key) : 0) + op->value.size <=
           TABLE_BYTES_MAX;
}

/* The table as it would be is saved; if that fails, the table is as it was: where the disk is full until
 * there is room, else for good. */
static enum kl_code change(struct kl_busl_kv *kv, struct kl_bus_kv *op)
{
    bool        there, put = op->kind == KL_BUS_KV_PUT;
    size_t      i = place(kv, op->key, &there);
    struct item old = { 0 };

    if (kv->dead) {
        op->err = kv->why;
        return KL_EIO;
    }
    if (expected(op, there ? kv->items[i].revision : 0) != KL_OK)
        return op->err.code;
    if (!put && !there)
        return kl_fail(&op->err, KL_ENOENT, "there is no key %s", op->key);
    if (put && !has_room(kv, op, there ? &kv->items[i] : NULL))
        return kl_fail(&op->err, KL_ELIMIT, "the table of keys is full");
    if (there)
        old = take_out(kv, i);
    if (put) {
        struct item new = { .key = kl_strdup(op->key), .size = op->value.size,
                            .value = kl_new(op->value.size > 0 ? op->value.size : 1),
                            .revision = kv->revision + 1 };

        if (new.size > 0)
            memcpy(new.value, op->value.at, new.size);
        insert(kv, i, new);
    }
    kv->revision++;
    if (save(kv, &op->err) != KL_OK) {
        if (put)
            item_free(take_out(kv, i));
        if (there)
            insert(kv, i, old);
        kv->revision--;
        if (op->err.code == KL_ELIMIT)
            return kl_within(&op->err, "keep the table of keys");
        /* Whether the new table took the old one's place is not known: no more changes. */
        kv->dead = true;
        kl_within(&op->err, "keep the table of keys");
        kv->why = op->err;
        kl_logf(kv->bus->log, KL_ERROR, "%s: no more changes until a restart", op->err.text);
        return op->err.code;
    }
    item_free(old);
    op->revision = kv->revision;
    for (struct eye *e = kv->eyes; e != NULL; e = e->next)
        if (sees(e, op->key))
            tell(e, op->key, op->value.at, put ? op->value.size : 0, !put, kv->revision);
    return KL_OK;
}

static bool crowded(const struct kl_busl_kv *kv)
{
    for (const struct eye *e = kv->eyes; e != NULL; e = e->next)
        if (atomic_load(&e->backlog) > kv->count + BACKLOG_MAX)
            return true;
    return false;
}

/* One operation a turn, so that an unwatch gets its turn, too. */
static void on_go(struct kl_env_task *task)
{
    struct kl_busl_kv *kv = kl_container_of(task, struct kl_busl_kv, go);
    struct kl_bus_kv  *op = kv->first;

    if (op == NULL)
        return;
    if (crowded(kv) && !kv->ending) {
        kv->bus->env->sched->arm(kv->loop, &kv->again, 10);
        return;
    }
    kv->first = op->own;
    if (kv->first == NULL)
        kv->last = (void **)&kv->first;
    if (kv->ending)
        complete(kv->bus, op, kl_busl_closed(&op->err));
    else
        complete(kv->bus, op, op->kind == KL_BUS_KV_GET ? get(kv, op) : change(kv, op));
    if (kv->first != NULL && !kv->go.queued)
        kl_busl_post(kv->bus, kv->loop, &kv->go);
}

static void on_again(struct kl_env_timer *timer)
{
    struct kl_busl_kv *kv = kl_container_of(timer, struct kl_busl_kv, again);

    if (!kv->go.queued)
        kl_busl_post(kv->bus, kv->loop, &kv->go);
}

static void on_op(struct kl_env_task *task)
{
    struct kl_bus_kv  *op = kl_container_of(task, struct kl_bus_kv, task);
    struct kl_busl_kv *kv = op->own;

    op->own = NULL;
    *kv->last = op;
    kv->last = &op->own;
    if (!kv->go.queued && !kv->again.armed)
        kl_busl_post(kv->bus, kv->loop, &kv->go);
}

void kl_busl_kv_op(struct kl_bus *bus, struct kl_bus_kv *op)
{
    struct kl_busl *b = kl_busl(bus);

    op->err = (struct kl_err){ 0 };
    op->got = NULL;
    op->got_size = 0;
    op->own = b->kv;
    if (kl_bus_fit_kv(op, &op->err) != KL_OK ||
        kl_busl_hand(b, b->kv->loop, &op->task, on_op, &op->err) != KL_OK)
        complete(b, op, op->err.code);
}

/* ---- the part as a whole ---- */

static void on_end(struct kl_env_task *task)
{
    struct kl_busl_kv *kv = kl_container_of(task, struct kl_busl_kv, end);

    kv->ending = true;
    if (!kv->go.queued)
        kl_busl_post(kv->bus, kv->loop, &kv->go);
}

enum kl_code kl_busl_kv_open(struct kl_busl *b, struct kl_env_dir *dir, struct kl_err *err)
{
    struct kl_busl_kv *kv = kl_new(sizeof *kv);
    void  *bytes;
    size_t size;

    kv->bus = b;
    kv->last = (void **)&kv->first;
    kv->go.run = on_go;
    kv->end.run = on_end;
    kv->again.fire = on_again;
    b->kv = kv;
    if (dir->enter(dir, "kv", true, &kv->dir, err) != KL_OK)
        return err->code;
    if (kv->dir->read(kv->dir, "table", 2u * TABLE_BYTES_MAX, &bytes, &size, err) == KL_OK) {
        enum kl_code code = parse(kv, bytes, size, err);

        free(bytes);
        if (code != KL_OK)
            return kl_within(err, "kv/table");
    } else if (err->code != KL_ENOENT) {
        return err->code;
    }
    if (dir->sync_names(dir, err) != KL_OK)            /* this folder's name, and the log's */
        return err->code;
    kv->loop = b->env->sched->loop_new(b->env->sched, "bus-kv", SIZE_MAX);
    return KL_OK;
}

void kl_busl_kv_close(struct kl_busl_kv *kv)
{
    kl_busl_post(kv->bus, kv->loop, &kv->end);
    kv->bus->env->sched->loop_free(kv->loop);
    kv->loop = NULL;
}

void kl_busl_kv_free(struct kl_busl_kv *kv)
{
    if (kv == NULL)
        return;
    for (struct eye *e = kv->eyes, *next; e != NULL; e = next) {
        next = e->next;
        eye_unref(e);
    }
    for (size_t i = 0; i < kv->count; i++)
        item_free(kv->items[i]);
    free(kv->items);
    if (kv->dir != NULL)
        kv->dir->leave(kv->dir);
    free(kv);
}
