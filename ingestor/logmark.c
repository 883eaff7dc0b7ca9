/*
 * The mark of a partition's log in the KV (libtsproto/logmark.h): which incarnation of the stream the
 * cell accepts. Read with the catalogue; written by the owner, when there is none, and before it goes
 * over to a log that was made anew. Doormen take no ack of a log that the mark does not name.
 */
#include "ingestor/ing_priv.h"

#include <inttypes.h>
#include <stdlib.h>

static void failed(struct ing_partition *p, const struct kl_err *err)
{
    struct ing_logmark *m = &p->logmark;

    if (ing_stopping(p))
        return;
    m->failures++;
    m->again_ns = kl_env_mono_ns(p->i->env) + ing_backoff_ms(p->i, m->failures) * 1000000;
    kl_logf(p->i->o.log, m->failures == 1 ? KL_WARN : KL_DEBUG, "ingestor: partition %" PRIu32 ": the "
            "mark of its log cannot be written, trying again: %s", p->number, err->text);
}

/* ---- reading it ---- */

static enum kl_code take(struct ing_logmark *m, struct kl_bus_kv *op)
{
    enum kl_code code = op->code;

    if (code == KL_OK) {
        code = tsp_logmark_decode(kl_span(op->got, op->got_size), &m->is, &op->err);
        free(op->got);
        if (code == KL_OK)
            m->revision = op->revision;
        else
            kl_within(&op->err, "the mark of the log");
    } else if (code == KL_ENOENT) {
        m->is = (struct tsp_logmark){ 0 };
        m->revision = 0;
        code = KL_OK;
    }
    return code;
}

static void loaded(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, logmark.kv);

    p->logmark.out = false;
    p->logmark.loaded(p, take(&p->logmark, op), &op->err);
}

void ing_logmark_load(struct ing_partition *p, void (*done)(struct ing_partition *p, enum kl_code code,
                                                         const struct kl_err *err))
{
    struct ing_logmark *m = &p->logmark;

    m->loaded = done;
    m->out = true;
    m->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = p->shard->loop, .done = loaded };
    tsp_logmark_key(m->kv.key, sizeof m->kv.key, p->number);
    p->i->bus->kv(p->i->bus, &m->kv);
}

/* ---- writing it ---- */

static void reread(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, logmark.kv);

    ing_in(p->i);
    p->logmark.out = false;
    if (take(&p->logmark, op) != KL_OK)
        failed(p, &op->err);
}

static void written(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, logmark.kv);
    struct ing_logmark      *m = &p->logmark;

    ing_in(p->i);
    m->out = false;
    kl_buf_deinit(&m->bytes);
    if (op->code == KL_OK) {
        m->is = m->next;
        m->revision = op->revision;
        m->failures = 0;
        ing_job_start(p);
    } else if (op->code == KL_EEXIST && !ing_stopping(p)) {
        m->out = true;                                 /* perhaps by us: then only its answer was lost */
        ing_out(p->i);
        m->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = p->shard->loop, .done = reread };
        tsp_logmark_key(m->kv.key, sizeof m->kv.key, p->number);
        p->i->bus->kv(p->i->bus, &m->kv);
    } else {
        failed(p, &op->err);
    }
}

/* What is lost of the incarnation that the mark names. */
static struct tsp_lost lost_of(const struct ing_partition *p)
{
    struct tsp_lost l = p->logmark.lost;

    if (l.incarnation != p->logmark.is.incarnation) {     /* nobody was there: since the last cut, then */
        l = (struct tsp_lost){ .incarnation = p->logmark.is.incarnation,
                               .first_seq = p->manifest.replay_from };
        for (uint32_t k = 0; k < p->manifest.fileset_count; k++)
            if (p->manifest.filesets[k].max_ms > l.from_ms)
                l.from_ms = p->manifest.filesets[k].max_ms;
    }
    l.to_ms = kl_env_now_ms(p->i->env);
    if (l.from_ms > l.to_ms)
        l.from_ms = l.to_ms;
    return l;
}

bool ing_logmark_is(struct ing_partition *p, uint64_t incarnation)
{
    struct ing_logmark *m = &p->logmark;

    if (m->is.incarnation == incarnation)
        return true;
    if (m->out || ing_stopping(p) || ing_epoch(p) == 0 ||
        kl_env_mono_ns(p->i->env) < m->again_ns)
        return false;
    m->next = m->is;
    if (m->is.incarnation != 0) {
        struct tsp_lost l = lost_of(p);
        char            words[KL_ERR_TEXT_MAX];

        tsp_logmark_turn(&m->next, incarnation, &l);
        tsp_lost_words(&l, words, sizeof words);
        kl_logf(p->i->o.log, KL_ERROR, "ingestor: ALARM: partition %" PRIu32 ": %s; going over to "
                "incarnation %" PRIu64, p->number, words, incarnation);
    }
    m->next.incarnation = incarnation;
    kl_buf_init(&m->bytes, KL_BUS_VALUE_MAX);
    tsp_logmark_encode(&m->next, &m->bytes);
    m->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&m->bytes),
                                .expect = m->revision, .loop = p->shard->loop, .done = written };
    tsp_logmark_key(m->kv.key, sizeof m->kv.key, p->number);
    m->out = true;
    ing_out(p->i);
    p->i->bus->kv(p->i->bus, &m->kv);
    return false;
}

/* ---- a log that is not the accepted one ---- */

uint64_t ing_logmark_accepted(const struct ing_partition *p, const struct blk_manifest *catalogue)
{
    return p->logmark.is.incarnation != 0 ? p->logmark.is.incarnation
         : p->pointer_revision != 0    ? catalogue->incarnation : 0;
}

bool ing_logmark_doubts(struct ing_partition *p, struct kl_err *err)
{
    uint64_t accepted = ing_logmark_accepted(p, &p->loaded), is = p->info.incarnation;

    if (accepted == 0 || accepted == is || p->logmark.doubted == is) {
        p->logmark.doubted = accepted == is ? 0 : p->logmark.doubted;
        return false;
    }
    p->logmark.doubted = is;                              /* a server that restarts may say it for a moment */
    kl_fail(err, KL_EAGAIN, "the log is of incarnation %" PRIu64 ", not %" PRIu64 ": looking once more",
            is, accepted);
    return true;
}
