/*
 * The reader: learns of each durable group, feeds whoever reads, and purges.
 *
 * A feed is one open kl_bus_reader. At most one delivery of it is under way at a time, of bounded
 * size: it goes to the reader's loop, is called out there, and comes back for more. Recent records
 * are lent from the groups they were written in; older ones are read from their segment.
 */
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct lent { uint64_t seq; int64_t time_ms; struct kl_span bytes; struct kl_busl_group *group; };
struct kl_busl_feed {
    _Atomic unsigned refs;                             /* the list, and a delivery under way */
    struct kl_busl *bus;
    struct kl_bus_reader *reader;                      /* touched on its loop only */
    struct kl_env_loop *loop;
    struct kl_busl_feed *next;
    struct kl_env_task open, close, delivery;
    uint32_t partition;
    uint64_t want;                                     /* the next sequence; the reader loop's */
    bool away, stopped, told;                          /* delivery out; broken; said caught up */
    bool closed;                                       /* by read_close, on the reader's own loop */
    /* the delivery */
    struct lent records[KL_BUSL_READ_RECORDS];
    uint32_t count;
    void    *bytes;                                    /* read from a segment */
    size_t   bytes_room;
    bool     caught_up;
    uint64_t last, first;
    enum kl_code broken;
    struct kl_err err;
};

static void feed_unref(struct kl_busl_feed *f)
{
    if (atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    free(f->bytes);
    free(f);
}

static void pump(struct kl_busl_feed *f);

static void on_back(struct kl_env_task *task)
{
    struct kl_busl_feed *f = kl_container_of(task, struct kl_busl_feed, delivery);

    f->away = false;
    pump(f);
    feed_unref(f);
}

/* On the reader's own loop. */
static void call_out(struct kl_busl_feed *f)
{
    struct kl_busl *b = f->bus;
    struct kl_bus_reader *r = f->reader;

    for (uint32_t i = 0; i < f->count && !f->closed && !atomic_load(&b->closed); i++) {
        struct kl_bus_record rec = { .seq = f->records[i].seq, .incarnation = b->incarnation,
                                     .behind = f->last - f->records[i].seq,
                                     .time_ms = f->records[i].time_ms,
                                     .bytes = f->records[i].bytes };
        r->record(r, &rec);
    }
    if (f->caught_up && !f->closed && !atomic_load(&b->closed))
        r->caught_up(r, f->last);
    if (f->broken != KL_OK && !f->closed && !atomic_load(&b->closed))
        r->broken(r, f->broken, b->incarnation, f->first, &f->err);
}

static void on_delivery(struct kl_env_task *task)
{
    struct kl_busl_feed *f = kl_container_of(task, struct kl_busl_feed, delivery);
    struct kl_busl      *b = f->bus;

    call_out(f);
    for (uint32_t i = 0; i < f->count; i++)
        kl_busl_group_unref(f->records[i].group);
    f->count = 0;
    if (f->closed || f->broken != KL_OK || !kl_busl_enter(b)) {
        feed_unref(f);
        return;
    }
    f->delivery.run = on_back;
    kl_busl_post(b, b->reader.loop, &f->delivery);
    kl_busl_leave(b);
}

static void deliver(struct kl_busl_feed *f)
{
    f->away = true;
    f->stopped = f->broken != KL_OK;
    atomic_fetch_add(&f->refs, 1);
    f->delivery.run = on_delivery;
    kl_busl_post(f->bus, f->loop, &f->delivery);
}

static void breaks(struct kl_busl_feed *f, enum kl_code code)
{
    kl_within(&f->err, "read partition %" PRIu32, f->partition);
    f->broken = code;
    f->first = f->bus->reader.index.first[f->partition];
}

static struct kl_busl_tail *ring_at(struct kl_busl_ring *g, uint64_t seq)
{
    if (g->count == 0 || seq < g->first || seq - g->first >= g->count)
        return NULL;
    return &g->at[(g->head + (uint32_t)(seq - g->first)) & (g->room - 1)];
}

static void lend(struct kl_busl_feed *f, uint64_t last)
{
    struct kl_busl_ring *ring = &f->bus->reader.rings[f->partition];
    size_t sum = 0;

    while (f->want <= last && f->count < KL_BUSL_READ_RECORDS && sum < KL_BUSL_READ_BYTES) {
        struct kl_busl_tail *t = ring_at(ring, f->want);
        struct kl_busl_entry *e = &t->group->entries[t->entry];

        assert(e->seq == f->want && e->partition == f->partition);
        atomic_fetch_add(&t->group->refs, 1);
        f->records[f->count++] = (struct lent){ .seq = e->seq, .time_ms = e->time_ms,
                                                .group = t->group,
                                                .bytes = kl_span(t->group->bytes + e->body_at,
                                                                 e->body_size) };
        sum += e->body_size;
        f->want++;
    }
}

/* How many of a run's records from `i` on to read in one go: as long as they are close together. */
static uint32_t stretch(const struct kl_busl_run *run, uint32_t i)
{
    uint64_t start = run->at[i].offset, useful = 0;
    uint32_t n = 0;

    while (i + n < run->count && n < KL_BUSL_READ_RECORDS) {
        const struct kl_busl_place *p = &run->at[i + n];
        uint64_t span = p->offset + (uint64_t)p->size - start;

        if (n > 0 && (span > KL_BUSL_READ_BYTES || span > 2 * (useful + p->size) + 65536))
            break;
        useful += p->size;
        n++;
    }
    return n;
}

static enum kl_code fetch(struct kl_busl_feed *f, struct kl_busl_segment *s, struct kl_err *err)
{
    struct kl_busl     *b = f->bus;
    struct kl_busl_run *run = &s->runs[f->partition];
    uint32_t i = (uint32_t)(f->want - run->first), n = stretch(run, i);
    uint64_t start = run->at[i].offset, size = run->at[i + n - 1].offset +
                                               (uint64_t)run->at[i + n - 1].size - start;
    char     name[KL_BUSL_NAME_MAX + 1];

    kl_busl_segment_name(name, s->number);
    if (s->view == NULL && b->dir->view(b->dir, name, &s->view, &(uint64_t){ 0 }, err) != KL_OK)
        return kl_within(err, "log segment %s", name);
    if (f->bytes_room < size) {
        f->bytes = kl_resize(f->bytes, size);
        f->bytes_room = size;
    }
    if (b->dir->view_read(s->view, start, f->bytes, size, err) != KL_OK)
        return kl_within(err, "log segment %s", name);
    for (uint32_t k = 0; k < n; k++) {
        const struct kl_busl_place *p = &run->at[i + k];
        const uint8_t *at = (uint8_t *)f->bytes + (p->offset - start);
        struct kl_busl_entry_head h;

        if (!kl_busl_entry_get(at, p->size, s->salt, &h) || kl_busl_entry_size(&h) != p->size ||
            h.seq != f->want || h.partition != f->partition || !kl_busl_entry_whole(at, &h))
            return kl_fail(err, KL_ECORRUPT, "log segment %s: record %" PRIu64
                           " at byte %" PRIu32 " is damaged", name, f->want, p->offset);
        f->records[f->count++] = (struct lent){ .seq = h.seq, .time_ms = h.time_ms,
                                                .bytes = kl_span(at + p->size - h.size, h.size) };
        f->want++;
    }
    return KL_OK;
}

static void pump(struct kl_busl_feed *f)
{
    struct kl_busl_reader *r = &f->bus->reader;
    uint64_t first = r->index.first[f->partition], last = r->index.last[f->partition];

    if (f->away || f->stopped)
        return;
    f->count = 0;
    f->caught_up = false;
    if (f->want < first) {
        kl_fail(&f->err, KL_ENOENT, "records %" PRIu64 " to %" PRIu64 " were purged", f->want,
                first - 1);
        breaks(f, KL_ENOENT);
    } else if (f->want > last + 1) {
        kl_fail(&f->err, KL_ECORRUPT,
                "asked for record %" PRIu64 ", but the log ends at %" PRIu64 ": it was rolled back",
                f->want, last);
        breaks(f, KL_ECORRUPT);
    } else if (f->want <= last && ring_at(&r->rings[f->partition], f->want) != NULL) {
        lend(f, last);
    } else if (f->want <= last) {
        struct kl_busl_segment *s = kl_busl_index_find(&r->index, f->partition, f->want);

        assert(s != NULL);
        if (fetch(f, s, &f->err) != KL_OK)
            breaks(f, KL_ECORRUPT);
    } else if (f->told) {
        return;                                        /* the next group wakes it */
    }
    f->caught_up = f->broken == KL_OK && f->want == last + 1;
    f->told = f->caught_up;
    f->last = last;
    deliver(f);
}

/* ---- groups from the writer ---- */

static void ring_add(struct kl_busl_ring *g, uint64_t seq, struct kl_busl_tail t)
{
    if (g->count == g->room) {
        uint32_t room = g->room > 0 ? 2 * g->room : 16;
        struct kl_busl_tail *at = kl_new(room * sizeof *at);

        for (uint32_t i = 0; i < g->count; i++)
            at[i] = g->at[(g->head + i) & (g->room - 1)];
        free(g->at);
        *g = (struct kl_busl_ring){ .at = at, .room = room, .count = g->count,
                                    .first = g->first };
    }
    if (g->count == 0)
        g->first = seq;
    assert(g->first + g->count == seq);
    g->at[(g->head + g->count++) & (g->room - 1)] = t;
}

static void drop_oldest_group(struct kl_busl_reader *r)
{
    struct kl_busl_group *g = r->oldest;

    for (uint32_t i = 0; i < g->count; i++) {
        struct kl_busl_ring *ring = &r->rings[g->entries[i].partition];

        assert(ring->first == g->entries[i].seq);
        ring->head = (ring->head + 1) & (ring->room - 1);
        ring->first++;
        ring->count--;
    }
    r->tail_bytes -= g->size;
    r->oldest = g->next;
    if (r->oldest == NULL)
        r->newest = NULL;
    kl_busl_group_unref(g);
}

void kl_busl_reader_group(struct kl_busl_reader *r, struct kl_busl_group *g)
{
    struct kl_busl_segment *s = kl_busl_index_segment(&r->index, g->segment, g->salt);
    struct kl_err err;

    g->next = NULL;
    if (r->newest != NULL)
        r->newest->next = g;
    else
        r->oldest = g;
    r->newest = g;
    r->tail_bytes += g->size;
    s->size = g->offset + g->size;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct kl_busl_entry *e = &g->entries[i];
        enum kl_code code = kl_busl_index_add(&r->index, s, e->partition, e->seq,
                                              g->offset + e->at, e->size, &err);

        assert(code == KL_OK);                         /* the writer numbers them */
        (void)code;
        ring_add(&r->rings[e->partition], e->seq, (struct kl_busl_tail){ g, i });
    }
    for (uint32_t i = 0; i < g->count; i++)
        for (struct kl_busl_feed *f = r->feeds[g->entries[i].partition]; f != NULL; f = f->next)
            pump(f);
    while (r->tail_bytes > KL_BUSL_TAIL_BYTES_MAX && r->oldest != r->newest)
        drop_oldest_group(r);
}

/* ---- opening and closing ---- */

static void on_open(struct kl_env_task *task)
{
    struct kl_busl_feed *f = kl_container_of(task, struct kl_busl_feed, open);
    struct kl_busl_reader *r = &f->bus->reader;

    f->next = r->feeds[f->partition];
    r->feeds[f->partition] = f;
    pump(f);
}

static void unlink_feed(struct kl_busl_reader *r, struct kl_busl_feed *f)
{
    struct kl_busl_feed **at = &r->feeds[f->partition];

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
}

static void on_close(struct kl_env_task *task)
{
    struct kl_busl_feed *f = kl_container_of(task, struct kl_busl_feed, close);

    unlink_feed(&f->bus->reader, f);
    f->stopped = true;
    feed_unref(f);
}

void kl_busl_read_open(struct kl_bus *bus, struct kl_bus_reader *reader)
{
    struct kl_busl *b = kl_busl(bus);
    struct kl_busl_feed *f;

    reader->own = NULL;
    if (!kl_busl_enter(b))
        return;                                        /* closed: readers are silent */
    assert(reader->partition < b->options.partitions);
    f = kl_new(sizeof *f);
    atomic_init(&f->refs, 1);
    f->bus = b;
    f->reader = reader;
    f->loop = reader->loop;
    f->partition = reader->partition;
    f->want = reader->from_seq > 0 ? reader->from_seq : 1;
    f->open.run = on_open;
    f->close.run = on_close;
    reader->own = f;
    kl_busl_post(b, b->reader.loop, &f->open);
    kl_busl_leave(b);
}

void kl_busl_read_close(struct kl_bus *bus, struct kl_bus_reader *reader)
{
    struct kl_busl *b = kl_busl(bus);
    struct kl_busl_feed *f = reader->own;

    if (f == NULL)
        return;
    reader->own = NULL;
    f->closed = true;
    if (kl_busl_enter(b)) {
        kl_busl_post(b, b->reader.loop, &f->close);
        kl_busl_leave(b);
    }
}

/* ---- the part as a whole ---- */

/* The last task: the loop ends, nobody comes back. A purge still waiting is behind it in the
 * queue and runs. */
static void on_end(struct kl_env_task *task)
{
    struct kl_busl_reader *r = kl_container_of(task, struct kl_busl_reader, end);

    while (r->oldest != NULL)
        drop_oldest_group(r);
    for (uint32_t p = 0; p < r->index.partitions; p++)
        for (struct kl_busl_feed *f = r->feeds[p]; f != NULL; f = f->next)
            f->stopped = true;
}

void kl_busl_reader_start(struct kl_busl *b)
{
    struct kl_busl_reader *r = &b->reader;

    r->bus = b;
    r->last_purge = &r->purges;
    r->purge.run = kl_busl_on_purge_flush;
    r->end.run = on_end;
    r->feeds = kl_new(b->options.partitions * sizeof *r->feeds);
    r->rings = kl_new(b->options.partitions * sizeof *r->rings);
    r->loop = b->env->sched->loop_new(b->env->sched, "bus-read", SIZE_MAX);
}

/* After the callers' loops have ended: no delivery is under way any more. */
void kl_busl_reader_free(struct kl_busl_reader *r)
{
    for (uint32_t p = 0; r->feeds != NULL && p < r->index.partitions; p++) {
        for (struct kl_busl_feed *f = r->feeds[p], *next; f != NULL; f = next) {
            next = f->next;
            feed_unref(f);
        }
        free(r->rings[p].at);
    }
    free(r->feeds);
    free(r->rings);
    kl_busl_index_deinit(&r->index, r->bus->dir);
}
