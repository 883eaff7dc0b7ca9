/* Answers too large to be made whole: piece by piece, as fast as they are read. */
#include "querier/api_priv.h"

static enum kl_http_more more(void *ctx, struct kl_buf *out)
{
    struct qr_pour *p = ctx;

    if (kl_env_mono_ns(p->h->env) > p->deadline_ns) {
        kl_logf(p->h->q->o.log, KL_WARN, "querier: an answer was cut off: its client read for more "
                "than %lld s", (long long)p->h->q->o.timeout_ms / 1000);
        return KL_HTTP_BREAK;
    }
    return p->part(p, out) ? KL_HTTP_MORE : KL_HTTP_LAST;
}

static void over(struct kl_env_task *task)
{
    qr_drop(kl_container_of(task, struct qr_pour, task)->job);
}

static void end(void *ctx)
{
    struct qr_pour *p = ctx;

    p->task.run = over;
    p->h->env->sched->post(p->job->shard->loop, &p->task);
}

bool qr_pour_start(struct qr_pour *p, struct qr_http *h, struct qr_job *j,
                   struct kl_http_request *r, const char *type)
{
    struct kl_http_stream s = { .more = more, .end = end, .ctx = p };

    if (!qr_job_pours(j))
        return false;
    p->h = h;
    p->job = j;
    p->deadline_ns = kl_env_mono_ns(h->env) + h->q->o.timeout_ms * 1000000;
    kl_http_answer_stream(r, 200, type, &s);
    return true;
}
