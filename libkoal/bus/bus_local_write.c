/*
 * The writer: appends in, groups out. Its loop does the writing and syncing itself, so whatever
 * arrives while a group syncs queues up behind it and makes the next group.
 */
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char tmp_name[] = "segment.tmp";

static void done(struct kl_env_task *task)
{
    struct kl_bus_append *op = kl_container_of(task, struct kl_bus_append, task);

    op->done(op);
}

static void complete(struct kl_busl *b, struct kl_bus_append *op, enum kl_code code)
{
    op->code = code;
    op->incarnation = b->incarnation;
    op->task.run = done;
    if (code == KL_OK) {
        kl_count(b->appended_records, !op->duplicate);
        kl_count(b->duplicates, op->duplicate);
    } else {
        kl_count(b->refused, 1);
    }
    kl_busl_post(b, op->loop, &op->task);
}

/* From here on every append fails with these words. */
static void die(struct kl_busl_writer *w, const struct kl_err *err)
{
    struct kl_busl *b = w->bus;

    if (w->dead)
        return;
    w->dead = true;
    b->why = *err;
    kl_within(&b->why, "the log takes no more records until a restart");
    atomic_store(&b->failed, true);
    kl_logf(b->log, KL_ERROR, "%s", b->why.text);
}

enum kl_code kl_busl_segment_begin(struct kl_busl *b, uint64_t number, uint64_t previous_end,
                                   struct kl_busl_group *const *groups, size_t group_count,
                                   uint64_t salt, struct kl_env_file **file, uint64_t *size,
                                   struct kl_err *err)
{
    struct kl_env_dir *dir = b->dir;
    struct kl_busl_segment_head h = { .partitions = b->options.partitions, .number = number,
                                      .incarnation = b->incarnation, .salt = salt,
                                      .previous_end = previous_end,
                                      .created_ms = kl_env_now_ms(b->env) };
    uint8_t  head[KL_BUSL_SEGMENT_HEAD];
    char     name[KL_BUSL_NAME_MAX + 1];
    uint64_t written = sizeof head;
    struct kl_env_file *f;
    enum kl_code code;

    kl_busl_segment_name(name, number);
    kl_busl_segment_put(head, &h);
    if (dir->create(dir, tmp_name, &f, err) != KL_OK)
        return kl_within(err, "begin log segment %s", name);
    code = dir->append(f, head, sizeof head, err);
    for (size_t i = 0; code == KL_OK && i < group_count; i++) {
        code = dir->append(f, groups[i]->bytes, groups[i]->size, err);
        written += groups[i]->size;
    }
    if (code == KL_OK)
        code = dir->sync(f, err);
    if (code == KL_OK && (code = dir->publish(f, name, err)) == KL_ELIMIT)
        code = err->code = KL_EIO;                     /* a folder that failed to sync stays so */
    if (code != KL_OK) {
        dir->close(f);
        dir->remove(dir, tmp_name, &(struct kl_err){ 0 });
        return kl_within(err, "begin log segment %s", name);
    }
    *file = f;
    *size = written;
    atomic_fetch_add(&b->log_bytes, written);
    return KL_OK;
}

static enum kl_code sync_now(struct kl_busl_writer *w, struct kl_err *err)
{
    if (w->file == NULL || w->synced == w->size)
        return KL_OK;
    if (w->bus->dir->sync(w->file, err) != KL_OK) {
        kl_within(err, "log segment %016" PRIx64, w->number);
        die(w, err);
        return err->code;
    }
    w->synced = w->size;
    return KL_OK;
}

static void on_sync_timer(struct kl_env_timer *timer)
{
    struct kl_err err;

    sync_now(kl_container_of(timer, struct kl_busl_writer, sync_timer), &err);
}

/* Makes sure that there is a segment to write to with room for a group. */
static enum kl_code ready(struct kl_busl_writer *w, struct kl_err *err)
{
    struct kl_busl *b = w->bus;
    uint64_t salt, size;
    struct kl_env_file *file;

    if (w->file != NULL && w->size < b->options.segment_bytes)
        return KL_OK;
    /* The next header vouches for this one's bytes: they must be down before. */
    if (sync_now(w, err) != KL_OK)
        return err->code;
    if (w->file != NULL)
        b->dir->close(w->file);
    w->file = NULL;
    salt = kl_env_draw(b->env);
    if (kl_busl_segment_begin(b, w->number + 1, w->synced, NULL, 0, salt, &file, &size, err) !=
        KL_OK) {
        if (err->code != KL_ELIMIT)
            die(w, err);
        return err->code;
    }
    w->file = file;
    w->number++;
    w->size = w->synced = size;
    w->salt = salt;
    return KL_OK;
}

static struct kl_span id_of(const struct kl_bus_append *op)
{
    return kl_span(op->id, strnlen(op->id, KL_BUS_ID_MAX));
}

static size_t weight(const struct kl_bus_append *op)
{
    return KL_BUSL_ENTRY_HEAD + id_of(op).size + op->record.size;
}

/* Takes from the queue what fits one group: no more than a segment, see options_check. */
static struct kl_bus_append *take(struct kl_busl_writer *w, size_t *bytes, uint32_t *count)
{
    size_t most = w->bus->options.segment_bytes < KL_BUSL_GROUP_BYTES_MAX
                      ? (size_t)w->bus->options.segment_bytes
                      : KL_BUSL_GROUP_BYTES_MAX;
    struct kl_bus_append *all = w->first, *op = all, **end = &all;

    *bytes = 0;
    *count = 0;
    while (op != NULL && (*count == 0 || *bytes + weight(op) <= most)) {
        *bytes += weight(op);
        (*count)++;
        end = &op->next;
        op = op->next;
    }
    *end = NULL;
    w->first = op;
    if (op == NULL)
        w->last = &w->first;
    return all;
}

/* Puts one append into the group; false when it is refused, with its code and words set. */
static bool put(struct kl_busl_writer *w, struct kl_busl_group *g, struct kl_bus_append *op,
                int64_t now_ms)
{
    struct kl_busl *b = w->bus;
    int64_t         tick_ms = kl_busl_ids_now(b->env);
    struct kl_span  id = id_of(op);
    struct kl_busl_entry_head h;
    uint64_t *next = &w->next_seq[op->partition];

    op->duplicate = false;
    if (id.size > 0 && (op->seq = kl_busl_ids_find(w->ids, op->partition, id, tick_ms)) != 0) {
        op->duplicate = true;
        return true;
    }
    if (b->options.log_bytes_max > 0 &&
        atomic_load(&b->log_bytes) + g->size + weight(op) > b->options.log_bytes_max) {
        op->code = kl_fail(&op->err, KL_ELIMIT, "the log is full: it may hold %" PRIu64 " bytes",
                           b->options.log_bytes_max);
        return false;
    }
    if (id.size > 0 && !kl_busl_ids_add(w->ids, op->partition, id, *next, tick_ms, tick_ms)) {
        op->code = kl_fail(&op->err, KL_EAGAIN,
                           "more than %d records in two minutes: their ids cannot be remembered",
                           KL_BUSL_IDS_MAX);
        return false;
    }
    h = (struct kl_busl_entry_head){ .partition = op->partition, .seq = *next, .time_ms = now_ms,
                                     .id = id };
    kl_busl_group_add(g, w->salt, &h, op->record);
    op->seq = (*next)++;
    return true;
}

/* None of the group's records landed: their sequences and ids are free again. */
static void take_back(struct kl_busl_writer *w, struct kl_bus_append *all)
{
    for (struct kl_bus_append *op = all; op != NULL; op = op->next) {
        if (op->code != KL_OK || op->duplicate)
            continue;
        kl_busl_ids_forget(w->ids, op->partition, id_of(op));
        if (op->seq < w->next_seq[op->partition])
            w->next_seq[op->partition] = op->seq;
    }
}

static enum kl_code write_group(struct kl_busl_writer *w, struct kl_busl_group *g,
                                struct kl_err *err)
{
    struct kl_busl *b = w->bus;

    kl_busl_group_seal(g, w->number, w->size, w->salt, w->synced);
    if (b->dir->append(w->file, g->bytes, g->size, err) != KL_OK) {
        kl_within(err, "log segment %016" PRIx64, w->number);
        /* A full disk ends the segment at its last synced byte; the next one says so. Only where
         * nothing acked lies beyond that byte. */
        if (err->code == KL_ELIMIT && w->synced == w->size) {
            b->dir->close(w->file);
            w->file = NULL;
            atomic_fetch_add(&b->log_bytes, g->size);  /* some of it may lie there */
        } else {
            die(w, err);
        }
        return err->code;
    }
    w->size += g->size;
    atomic_fetch_add(&b->log_bytes, g->size);
    kl_count(b->appended_bytes, g->size);
    kl_count(b->commits, 1);
    if (b->options.fsync_ms == 0)
        return sync_now(w, err);
    if (!w->sync_timer.armed)
        b->env->sched->arm(w->loop, &w->sync_timer, b->options.fsync_ms);
    return KL_OK;
}

static void to_reader(struct kl_env_task *task)
{
    struct kl_busl_group *g = kl_container_of(task, struct kl_busl_group, task);

    kl_busl_reader_group(&g->to->reader, g);
}

static void finish(struct kl_busl *b, struct kl_bus_append *all, const struct kl_err *err)
{
    for (struct kl_bus_append *op = all, *next; op != NULL; op = next) {
        next = op->next;                               /* after complete it is the caller's */
        if (op->code == KL_OK && err->code != KL_OK)
            op->err = *err;
        complete(b, op, op->code != KL_OK ? op->code : err->code);
    }
}

static void commit(struct kl_busl_writer *w)
{
    struct kl_busl *b = w->bus;
    struct kl_err   err = { 0 };
    int64_t  now_ms = kl_env_now_ms(b->env);
    size_t   bytes;
    uint32_t count;
    struct kl_bus_append *all = take(w, &bytes, &count);
    struct kl_busl_group *g;

    for (struct kl_bus_append *op = all; op != NULL; op = op->next)
        op->code = KL_OK;
    if (w->dead || ready(w, &err) != KL_OK) {
        if (w->dead)
            err = b->why;
        if (w->dead)
            err.code = KL_EIO;
        finish(b, all, &err);
        return;
    }
    g = kl_busl_group_new(bytes, count);
    for (struct kl_bus_append *op = all; op != NULL; op = op->next)
        put(w, g, op, now_ms);
    if (g->count > 0 && write_group(w, g, &err) != KL_OK) {
        take_back(w, all);
    } else if (g->count > 0) {
        /* The reader first: an append's done may ask it what the log holds. */
        for (struct kl_bus_append *op = all; op != NULL; op = op->next)
            atomic_store(&b->ends[op->partition], w->next_seq[op->partition] - 1);
        g->to = b;
        g->task.run = to_reader;
        kl_busl_post(b, b->reader.loop, &g->task);
        g = NULL;
    }
    kl_busl_group_unref(g);
    finish(b, all, &err);
}

static void on_flush(struct kl_env_task *task)
{
    struct kl_busl_writer *w = kl_container_of(task, struct kl_busl_writer, flush);

    if (w->first != NULL)
        commit(w);
    if (w->first != NULL)
        kl_busl_post(w->bus, w->loop, &w->flush);
}

static void on_append(struct kl_env_task *task)
{
    struct kl_bus_append  *op = kl_container_of(task, struct kl_bus_append, task);
    struct kl_busl_writer *w = op->own;

    op->next = NULL;
    *w->last = op;
    w->last = &op->next;
    /* Behind what is queued already: all of that goes into the same group. */
    if (!w->flush.queued)
        kl_busl_post(w->bus, w->loop, &w->flush);
}

void kl_busl_writer_append(struct kl_busl_writer *w, struct kl_bus_append *op)
{
    struct kl_busl *b = w->bus;

    op->seq = 0;
    op->duplicate = false;
    op->err = (struct kl_err){ 0 };
    op->own = w;
    if (kl_bus_fit_append(op, b->options.partitions, &op->err) != KL_OK ||
        kl_busl_hand(b, w->loop, &op->task, on_append, &op->err) != KL_OK)
        complete(b, op, op->err.code);
}

/* The last task of the loop: what was asked for in time is still written. */
static void on_end(struct kl_env_task *task)
{
    struct kl_busl_writer *w = kl_container_of(task, struct kl_busl_writer, end);
    struct kl_err err;

    while (w->first != NULL)
        commit(w);
    if (!w->dead)
        sync_now(w, &err);
    if (w->file != NULL)
        w->bus->dir->close(w->file);
    w->file = NULL;
}

void kl_busl_writer_start(struct kl_busl *b)
{
    struct kl_busl_writer *w = &b->writer;

    w->bus = b;
    w->last = &w->first;
    w->flush.run = on_flush;
    w->end.run = on_end;
    w->sync_timer.fire = on_sync_timer;
    w->loop = b->env->sched->loop_new(b->env->sched, "bus-log", SIZE_MAX);
}
