/*
 * Readers over JetStream. Each time its tap is renewed a reader asks what the stream is now: the
 * same one, still holding what comes next? Only then does it go on.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct feed {
    struct kl_busn_tap tap;                            /* its references are the feed's */
    struct kl_bus_reader *reader;                      /* touched on its loop only */
    struct kl_env_loop *loop;
    uint32_t partition;
    struct kl_env_task open, close, delivery;
    bool closed;                                       /* by read_close, on the reader's own loop */
    /* the bus's loop's */
    uint64_t want;                                     /* the next sequence from the server */
    uint64_t incarnation;                              /* 0: not known yet */
    uint64_t gap_at;                                   /* where a gap was seen once */
    struct kl_busn_state found;                        /* by the last check */
    struct kl_busn_drop *first, **last;                /* received, not delivered */
    bool away, at_end, stopped;
    /* the delivery */
    struct kl_busn_drop *batch;
    uint64_t batch_incarnation;
    bool caught_up;
    uint64_t caught_up_at;
    enum kl_code broken;
    struct kl_err err;
};

static struct feed *feed_of(struct kl_busn_tap *t) { return kl_container_of(t, struct feed, tap); }

static void pump(struct feed *f);

static void cancel(struct kl_busn_tap *t)
{
    struct feed *f = feed_of(t);
    struct kl_busn_drop *queued = f->first;

    f->first = NULL;
    f->last = &f->first;
    kl_busn_drops_free(queued);
}

static void feed_free(struct kl_busn_tap *t)
{
    struct feed *f = feed_of(t);

    assert(f->first == NULL && f->batch == NULL);      /* each drop holds a reference */
    free(f);
}

static void on_back(struct kl_env_task *task)
{
    struct feed *f = kl_container_of(task, struct feed, delivery);
    struct kl_busn_drop *batch = f->batch;

    f->batch = NULL;
    kl_busn_tap_done(&f->tap, batch);
    f->away = false;
    pump(f);
    kl_busn_tap_unref(&f->tap);
}

/* On the reader's loop. */
static void on_delivery(struct kl_env_task *task)
{
    struct feed          *f = kl_container_of(task, struct feed, delivery);
    struct kl_busn       *b = f->tap.bus;
    struct kl_bus_reader *r = f->reader;

    for (struct kl_busn_drop *d = f->batch; d != NULL; d = d->next) {
        struct kl_bus_record rec = { .seq = d->seq, .incarnation = f->batch_incarnation,
                                     .behind = d->pending, .time_ms = d->time_ms,
                                     .bytes = kl_span(natsMsg_GetData(d->msg),
                                                      (size_t)natsMsg_GetDataLength(d->msg)) };

        const char *trace;

        if (f->closed || atomic_load(&b->closed))
            break;
        if (b->options.traces && natsMsgHeader_Get(d->msg, KL_BUSN_TRACE, &trace) == NATS_OK)
            (void)kl_trace_parse(kl_span_str(trace), &rec.trace);
        r->record(r, &rec);
    }
    if (f->caught_up && !f->closed && !atomic_load(&b->closed))
        r->caught_up(r, f->caught_up_at);
    if (f->broken != KL_OK && !f->closed && !atomic_load(&b->closed))
        r->broken(r, f->broken, f->found.incarnation, f->found.first_seq, &f->err);
    if (kl_busn_enter(b)) {
        f->delivery.run = on_back;
        kl_busn_post(b, b->loop, &f->delivery);
        kl_busn_leave(b);
    } else {
        struct kl_busn_drop *batch = f->batch;

        f->batch = NULL;
        kl_busn_drops_free(batch);
        kl_busn_tap_unref(&f->tap);
    }
}

static void deliver(struct feed *f)
{
    f->away = true;
    kl_busn_tap_ref(&f->tap);
    f->delivery.run = on_delivery;
    kl_busn_post(f->tap.bus, f->loop, &f->delivery);
}

static void pump(struct feed *f)
{
    bool broken = f->err.code != KL_OK && !f->stopped;

    if (f->away || f->stopped || f->tap.closed || atomic_load(&f->tap.bus->closed))
        return;
    if (f->first == NULL && !f->at_end && !broken)
        return;
    f->batch = f->first;
    f->batch_incarnation = f->incarnation;
    f->first = NULL;
    f->last = &f->first;
    f->caught_up = f->at_end;
    f->caught_up_at = f->want - 1;
    f->at_end = false;
    f->broken = broken ? f->err.code : KL_OK;
    f->stopped = broken;
    deliver(f);
}

static void breaks(struct feed *f, enum kl_code code)
{
    f->tap.running = false;
    f->err.code = code;
    kl_within(&f->err, "read partition %" PRIu32, f->partition);
    pump(f);
}

/* ---- what the tap calls ---- */

static enum kl_code check(struct kl_busn_tap *t, int64_t wait_ms, bool *may, struct kl_err *err)
{
    struct feed *f = feed_of(t);

    if (kl_busn_stream(t->bus, f->partition, wait_ms, &f->found, err) != KL_OK)
        return err->code;
    *may = (f->incarnation == 0 || f->incarnation == f->found.incarnation) &&
           t->start_seq >= f->found.first_seq && t->start_seq <= f->found.last_seq + 1;
    return KL_OK;
}

static void attached(struct kl_busn_tap *t, bool may, uint64_t pending)
{
    struct feed *f = feed_of(t);
    struct kl_busn_state *s = &f->found;

    if (!may && f->incarnation != 0 && f->incarnation != s->incarnation) {
        kl_fail(&f->err, KL_ECORRUPT, "the stream was made anew: its incarnation was %" PRIu64
                ", is %" PRIu64, f->incarnation, s->incarnation);
        breaks(f, KL_ECORRUPT);
    } else if (!may && f->want < s->first_seq) {
        kl_fail(&f->err, KL_ENOENT, "records %" PRIu64 " to %" PRIu64 " were purged", f->want,
                s->first_seq - 1);
        breaks(f, KL_ENOENT);
    } else if (!may) {
        kl_fail(&f->err, KL_ECORRUPT, "record %" PRIu64 " comes next, but the log ends at "
                "%" PRIu64 ": it was rolled back", f->want, s->last_seq);
        breaks(f, KL_ECORRUPT);
    } else {
        f->incarnation = s->incarnation;
        if (pending == 0 && f->want == s->last_seq + 1) {
            f->at_end = true;
            pump(f);
        }
    }
}

static void drop(struct kl_busn_tap *t, struct kl_busn_drop *d)
{
    struct feed *f = feed_of(t);

    d->next = NULL;
    if (d->seq < f->want) {                            /* sent again */
        kl_busn_tap_done(t, d);
    } else if (d->seq == f->want) {
        f->want++;
        t->start_seq = f->want;
        f->at_end = d->pending == 0;
        *f->last = d;
        f->last = &d->next;
        pump(f);
    } else if (f->gap_at == f->want) {
        kl_busn_tap_done(t, d);
        kl_fail(&f->err, KL_ECORRUPT, "record %" PRIu64 " is missing in the stream", f->want);
        breaks(f, KL_ECORRUPT);
    } else {
        f->gap_at = f->want;                           /* purged meanwhile? the check will say */
        kl_busn_tap_done(t, d);
        kl_busn_tap_renew(t);
    }
}

/* ---- opening and closing ---- */

static void on_open(struct kl_env_task *task)
{
    struct feed *f = kl_container_of(task, struct feed, open);

    kl_busn_tap_open(f->tap.bus, &f->tap);
}

static void on_close(struct kl_env_task *task)
{
    struct feed *f = kl_container_of(task, struct feed, close);
    f->stopped = true;
    kl_busn_tap_close(&f->tap);
}

void kl_busn_read_open(struct kl_bus *bus, struct kl_bus_reader *r)
{
    struct kl_busn *b = kl_busn(bus);
    struct feed    *f;

    r->own = NULL;
    if (!kl_busn_enter(b))
        return;
    assert(r->partition < b->options.partitions);
    f = kl_new(sizeof *f);
    atomic_init(&f->tap.refs, 1);
    f->tap.bus = b;
    f->tap.check = check;
    f->tap.attached = attached;
    f->tap.drop = drop;
    f->tap.cancel = cancel;
    f->tap.free = feed_free;
    f->reader = r;
    f->loop = r->loop;
    f->partition = r->partition;
    f->want = f->tap.start_seq = r->from_seq > 0 ? r->from_seq : 1;
    f->last = &f->first;
    kl_busn_stream_name(b, r->partition, f->tap.stream);
    f->open.run = on_open;
    f->close.run = on_close;
    r->own = f;
    kl_busn_post(b, b->loop, &f->open);
    kl_busn_leave(b);
}

void kl_busn_read_close(struct kl_bus *bus, struct kl_bus_reader *r)
{
    struct kl_busn *b = kl_busn(bus);
    struct feed    *f = r->own;

    if (f == NULL)
        return;
    r->own = NULL;
    f->closed = true;
    if (kl_busn_enter(b)) {
        kl_busn_post(b, b->loop, &f->close);
        kl_busn_leave(b);
    }
}
