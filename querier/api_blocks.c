/*
 * /status/tsdb/blocks: the tenant's filesets, as the catalogue has them, in the form of Prometheus'
 * blocks. Their `ulid` is made of the first sample's time and a hash of their path.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "libkoal/base/hash.h"
#include "querier/api_priv.h"

struct blocks {
    struct qr_job job;
    struct qr_http *h;
    struct kl_http_request *r;
    struct qr_lookup lookup;
    uint32_t partition, partitions;
    struct kl_buf out;
    size_t shown;
    bool back, waiting;                                /* of the look-up */
};

static struct blocks *of_job(struct qr_job *j)
{
    return kl_container_of(j, struct blocks, job);
}

static void ulid(const struct blk_info *i, const char *path, char text[27])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t          ms = i->min_ms > 0 ? (uint64_t)i->min_ms : 0, hash = kl_hash64(path, strlen(path));

    for (int k = 9; k >= 0; k--, ms >>= 5)
        text[k] = digits[ms & 31];
    for (int k = 25; k >= 10; k--, hash = hash >> 5 | hash << 59)
        text[k] = digits[hash & 31];
    text[26] = '\0';
}

static void tell(struct blocks *b, const struct blk_info *i)
{
    char path[BLK_PATH_MAX + 1], id[27];

    blk_fileset_path(i, path);
    ulid(i, path, id);
    kl_buf_addf(&b->out, "%s{\"ulid\":\"%s\",\"minTime\":%" PRId64 ",\"maxTime\":%" PRId64
                ",\"stats\":{\"numSamples\":%" PRIu64 ",\"numSeries\":%" PRIu64 ",\"numBytes\":%"
                PRIu64 "},\"compaction\":{\"level\":%d,\"sources\":[\"%s\"]},\"version\":1,"
                "\"path\":", b->shown++ > 0 ? "," : "", id, i->min_ms, i->max_ms, i->sample_count,
                i->series_count, i->chunk_bytes, i->generation > 0 ? 2 : 1, id);
    kl_json_cstr(&b->out, path);
    kl_buf_addf(&b->out, ",\"quarantined\":%s}", i->quarantined ? "true" : "false");
    if (i->resolution_ms > 0) {
        b->out.size--;
        kl_buf_addf(&b->out, ",\"resolution\":%" PRId64 "}", i->resolution_ms);
    }
}

static void go_on(struct blocks *b);

static void looked_up(struct qr_lookup *l)
{
    struct blocks      *b = kl_container_of(l, struct blocks, lookup);
    struct qr_manifest *m = l->code == KL_OK ? l->manifest : NULL;

    if (l->code != KL_OK)
        qr_job_fail(&b->job, PQL_UNAVAILABLE, "partition %" PRIu32 ": %s", b->partition,
                    l->err.text);
    for (uint32_t i = 0; m != NULL && i < m->m.fileset_count; i++)
        if (strcmp(m->m.filesets[i].tenant, b->job.tenant) == 0)
            tell(b, &m->m.filesets[i]);
    qr_manifest_unref(m);
    l->manifest = NULL;
    b->partition++;
    b->back = true;
    if (b->waiting)
        go_on(b);
}

/* One partition after the other; most are answered at once, from memory. */
static void go_on(struct blocks *b)
{
    b->waiting = false;
    while (!b->job.ended && b->partition < b->partitions) {
        b->back = false;
        b->lookup = (struct qr_lookup){ .job = &b->job, .partition = b->partition,
                                        .done = looked_up };
        qr_lookup_start(&b->lookup);
        if (!b->back) {
            b->waiting = true;
            return;
        }
    }
    qr_job_done(&b->job);
    qr_drop(&b->job);
}

static void start(struct qr_job *j)
{
    struct blocks *b = of_job(j);

    if (!atomic_load(&j->shard->placement_known)) {
        qr_job_fail(j, PQL_UNAVAILABLE, "the placement table has not been read yet");
        return;
    }
    b->partitions = tsp_placement_partitions(j->shard->table->placement);
    qr_api_begin(&b->out);
    kl_buf_adds(&b->out, "{\"blocks\":[");
    qr_hold(j);
    go_on(b);
}

static void finish(struct qr_job *j)
{
    struct blocks *b = of_job(j);

    if (j->failure.kind != PQL_OK) {
        qr_api_error(b->r, j->failure.kind, "%s", j->failure.text);
        return;
    }
    kl_buf_adds(&b->out, "]}");
    qr_api_end(&b->out, NULL, 0, NULL, 0);
    qr_api_send(b->r, "application/json", &b->out);
}

static void release(struct qr_job *j)
{
    struct blocks *b = of_job(j);

    kl_buf_deinit(&b->out);
    free(b);
}

static bool gone(struct qr_job *j)
{
    return kl_http_gone(of_job(j)->r);
}

static void blocks(void *ctx, struct kl_http_request *r)
{
    struct qr_http *h = ctx;
    struct blocks  *b = kl_new(sizeof *b);

    b->h = h;
    b->r = r;
    kl_buf_init(&b->out, (size_t)h->q->o.query_memory_max_bytes);
    b->job.start = start;
    b->job.finish = finish;
    b->job.release = release;
    b->job.gone = gone;
    if (qr_api_job(h, r, &b->job))
        qr_submit(h->q, &b->job);
    else
        free(b);
}

void qr_api_blocks_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/status/tsdb/blocks", blocks);
}
