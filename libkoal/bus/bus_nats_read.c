/*
 * Readers over JetStream. Each time its tap is renewed a reader asks what the stream is now: the
 * same one, still holding what comes next? Only then does it go on, and once more reads the record
 * that it read last, which must be the same.
 *
 * A consumer lies on one server, which may lag behind the stream's leader, and on a server (2.9)
 * that catches up it may not be woken. So how far the log goes is never concluded from what the
 * consumer says is left: each second the leader is asked, and a consumer that brings nothing of
 * what the leader has is replaced.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A leader that was just elected may not have applied all that is acked. */
enum { ROLLBACK_MS = 3000 };

struct feed {
    struct kl_busn_tap tap;                            /* its references are the feed's */
    struct kl_bus_reader *reader;                      /* touched on its loop only */
    uint32_t partition;
    /* the bus's loop's */
    uint64_t want;                                     /* the next sequence from the server */
    uint64_t incarnation;                              /* 0: not known yet */
    uint64_t gap_at;                                   /* where a gap was seen once */
    struct kl_busn_state found;                        /* by the last check */
    struct kl_busl_ids *ids;                           /* of its records lately; or NULL */
    uint64_t end_seq;                                  /* the log went so far, by its leader */
    uint64_t hash;                                     /* of the record before `want` */
    bool hashed, verify;                               /* that is known; that comes again first */
    int64_t doubt_ns;                                  /* since when it seems rolled back; 0: not */
    bool looking;
    int64_t looked_ns;
    uint64_t missed;                                   /* `want` when a look saw it in the log; or 0 */
    bool tell_end;
    int64_t end_ns;                                    /* when the leader was asked */
    bool at_end, stopped;
    /* the delivery */
    uint64_t batch_incarnation;
    bool caught_up, ended;
    uint64_t caught_up_at, ended_at;
    int64_t ended_ns;
    enum kl_code broken;
    struct kl_err err;
};

static struct feed *feed_of(struct kl_busn_tap *t) { return kl_container_of(t, struct feed, tap); }

static void feed_free(struct kl_busn_tap *t)
{
    struct feed *f = feed_of(t);

    assert(t->first == NULL && t->batch == NULL);      /* each drop holds a reference */
    kl_busl_ids_free(f->ids);
    free(f);
}

/* On the reader's loop. */
static void tell(struct kl_busn_tap *t)
{
    struct feed          *f = feed_of(t);
    struct kl_bus_reader *r = f->reader;

    for (struct kl_busn_drop *d = t->batch; d != NULL; d = d->next) {
        struct kl_bus_record rec = { .seq = d->seq, .incarnation = f->batch_incarnation,
                                     .behind = d->pending, .time_ms = d->time_ms,
                                     .repeat = d->repeat,
                                     .bytes = kl_span(natsMsg_GetData(d->msg),
                                                      (size_t)natsMsg_GetDataLength(d->msg)) };

        const char *trace;

        if (!kl_busn_tap_hears(t))
            break;
        if (t->bus->options.traces && natsMsgHeader_Get(d->msg, KL_BUSN_TRACE, &trace) == NATS_OK)
            (void)kl_trace_parse(kl_span_str(trace), &rec.trace);
        r->record(r, &rec);
    }
    if (f->caught_up && kl_busn_tap_hears(t))
        r->caught_up(r, f->caught_up_at);
    if (f->ended && r->end != NULL && kl_busn_tap_hears(t))
        r->end(r, f->ended_at, f->ended_ns);
    if (f->broken != KL_OK && kl_busn_tap_hears(t))
        r->broken(r, f->broken, f->found.incarnation, f->found.first_seq, &f->err);
}

static void pump(struct feed *f)
{
    bool broken = f->err.code != KL_OK && !f->stopped;

    if (f->stopped || !kl_busn_tap_may_send(&f->tap))
        return;
    if (f->tap.first == NULL && !f->at_end && !f->tell_end && !broken)
        return;
    f->batch_incarnation = f->incarnation;
    f->caught_up = f->at_end;
    f->caught_up_at = f->want - 1;
    f->at_end = false;
    f->ended = f->tell_end;
    f->ended_at = f->end_seq;
    f->ended_ns = f->end_ns;
    f->tell_end = false;
    f->broken = broken ? f->err.code : KL_OK;
    f->stopped = broken;
    kl_busn_tap_send(&f->tap);
}

static void pump_again(struct kl_busn_tap *t) { pump(feed_of(t)); }

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
    int64_t      now_ns;

    if (kl_busn_stream(t->bus, f->partition, wait_ms, &f->found, err) != KL_OK)
        return err->code;
    if ((f->incarnation == 0 || f->incarnation == f->found.incarnation) &&
        f->want > f->found.last_seq + 1) {
        now_ns = kl_env_mono_ns(t->bus->env);
        if (f->doubt_ns == 0)
            f->doubt_ns = now_ns;
        if (now_ns - f->doubt_ns < ROLLBACK_MS * INT64_C(1000000))
            return kl_fail(err, KL_EAGAIN, "record %" PRIu64 " of partition %" PRIu32 " comes next, "
                           "but the log at %s ends at %" PRIu64, f->want, f->partition, t->bus->url,
                           f->found.last_seq);
    } else {
        f->doubt_ns = 0;
    }
    *may = (f->incarnation == 0 || f->incarnation == f->found.incarnation) &&
           f->want >= f->found.first_seq && f->want <= f->found.last_seq + 1;
    t->start_seq = f->want - (f->hashed && f->want > f->found.first_seq);
    return KL_OK;
}

static void attached(struct kl_busn_tap *t, bool may, uint64_t pending)
{
    struct feed *f = feed_of(t);
    struct kl_busn_state *s = &f->found;

    (void)pending;                                     /* of that server */
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
        f->end_seq = s->last_seq;
        f->verify = t->start_seq + 1 == f->want;
        f->missed = 0;
        f->looked_ns = kl_env_mono_ns(t->bus->env);
        if (f->want == s->last_seq + 1 && !f->verify) {
            f->at_end = true;
            pump(f);
        }
    }
}

/* By the log's own clock, so that it is the same for everybody who reads it. */
static bool is_repeat(struct feed *f, struct kl_busn_drop *d)
{
    const char    *id = NULL;
    struct kl_span span;

    if (natsMsgHeader_Get(d->msg, KL_BUSN_ID, &id) != NATS_OK || id == NULL)
        return false;
    span = kl_span_str(id);
    if (span.size == 0 || span.size > KL_BUS_ID_MAX)
        return false;
    if (f->ids == NULL)
        f->ids = kl_busl_ids_new();
    if (kl_busl_ids_find(f->ids, 0, span, d->time_ms) != 0)
        return true;
    kl_busl_ids_add(f->ids, 0, span, d->seq, d->time_ms, d->time_ms);
    return false;
}

/* The record that was read last has come once more. */
static void verify(struct feed *f, struct kl_busn_drop *d, uint64_t hash)
{
    f->verify = false;
    kl_busn_tap_done(&f->tap, d);
    if (hash != f->hash) {
        kl_fail(&f->err, KL_ECORRUPT, "record %" PRIu64 " is not the one that was read before: the "
                "log was rolled back and went on", f->want - 1);
        breaks(f, KL_ECORRUPT);
    } else if (f->want > f->end_seq) {
        f->at_end = true;
        pump(f);
    }
}

static void drop(struct kl_busn_tap *t, struct kl_busn_drop *d)
{
    struct feed *f = feed_of(t);
    uint64_t     hash = kl_hash64(natsMsg_GetData(d->msg), (size_t)natsMsg_GetDataLength(d->msg));

    if (f->verify && d->seq + 1 == f->want) {
        verify(f, d, hash);
    } else if (d->seq < f->want) {                     /* sent again */
        kl_busn_tap_done(t, d);
    } else if (d->seq == f->want) {
        f->want++;
        d->repeat = is_repeat(f, d);
        f->hash = hash;
        f->hashed = true;
        f->verify = false;
        f->at_end = d->pending == 0 && d->seq >= f->end_seq;
        kl_busn_tap_put(t, d);
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

/* ---- looks at where the log ends ---- */

struct look { struct kl_busn_job job; struct feed *feed; int64_t asked_ns; struct kl_busn_state state; };

static enum kl_code look_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct look *k = kl_container_of(j, struct look, job);

    k->asked_ns = kl_env_mono_ns(j->bus->env);
    return kl_busn_stream(j->bus, k->feed->partition,
                          wait_ms < KL_BUSN_TRY_MS ? wait_ms : KL_BUSN_TRY_MS, &k->state, err);
}

static void look_at(struct feed *f, const struct look *k)
{
    const struct kl_busn_state *s = &k->state;

    if (s->incarnation != f->incarnation || s->first_seq > f->want || s->last_seq + 1 < f->want) {
        kl_busn_tap_renew(&f->tap);                    /* its check says what it is */
        return;
    }
    f->end_seq = s->last_seq;
    f->end_ns = k->asked_ns;
    f->tell_end = true;
    if (s->last_seq >= f->want && f->missed == f->want && f->tap.held_bytes == 0)
        kl_busn_tap_renew(&f->tap);
    f->missed = s->last_seq >= f->want ? f->want : 0;
    pump(f);
}

static void look_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct look *k = kl_container_of(j, struct look, job);
    struct feed *f = k->feed;

    (void)err;
    f->looking = false;
    if (code == KL_OK && f->tap.running && !f->tap.closed && !f->stopped)
        look_at(f, k);
    kl_busn_tap_unref(&f->tap);
    free(k);
}

static void tick(struct kl_busn_tap *t, int64_t now_ns)
{
    struct feed *f = feed_of(t);
    struct look *k;

    if (f->looking || f->stopped || now_ns - f->looked_ns < KL_BUSN_LOOK_MS * INT64_C(1000000))
        return;
    f->looking = true;
    f->looked_ns = now_ns;
    k = kl_new(sizeof *k);
    k->feed = f;
    kl_busn_tap_ref(t);
    k->job.look = true;
    k->job.run = look_run;
    k->job.over = look_over;
    k->job.deadline_ns = kl_busn_deadline(t->bus, KL_BUSN_TRY_MS);
    kl_busn_job_start(t->bus, &k->job);
}

/* ---- opening and closing ---- */

void kl_busn_read_open(struct kl_bus *bus, struct kl_bus_reader *r)
{
    struct kl_busn *b = kl_busn(bus);
    struct feed    *f;

    r->own = NULL;
    if (!kl_busn_enter(b))
        return;
    assert(r->partition < b->options.partitions);
    f = kl_new(sizeof *f);
    f->tap.check = check;
    f->tap.attached = attached;
    f->tap.drop = drop;
    f->tap.free = feed_free;
    f->tap.tick = tick;
    f->tap.tell = tell;
    f->tap.pump = pump_again;
    f->reader = r;
    f->partition = r->partition;
    f->want = f->tap.start_seq = r->from_seq > 0 ? r->from_seq : 1;
    kl_busn_stream_name(b, r->partition, f->tap.stream);
    kl_busn_tap_begin(b, &f->tap, r->loop, &r->own);
}

void kl_busn_read_close(struct kl_bus *bus, struct kl_bus_reader *r)
{
    (void)bus;
    kl_busn_tap_end(&r->own);
}
