/*
 * What is told of a request: its id goes out with the answer, a line into the log, its span to the
 * tracer. All when the answer is handed to the connection, on a server thread.
 */
#include "libkoal/http/http_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { PATH_TOLD_MAX = 200, TENANT_TOLD_MAX = 150 };

void kl_http_teller_init(struct kl_http_teller *t, const struct kl_http_options *o)
{
    struct timespec now;

    t->log = o->log;
    t->logs = o->logs;
    t->tracer = o->tracer;
    if (getrandom(&t->salt, sizeof t->salt, GRND_NONBLOCK) != sizeof t->salt) {
        clock_gettime(CLOCK_REALTIME, &now);           /* ids need be different, not secret */
        t->salt = (uint64_t)now.tv_sec * 1000000007 + (uint64_t)now.tv_nsec;
    }
}

/* A number that looks like none before it: splitmix64 of a counter. */
static uint64_t mix(uint64_t n)
{
    n *= UINT64_C(0x9e3779b97f4a7c15);
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return n ^ n >> 31;
}

static bool is_fit(const char *id)
{
    size_t n = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/+=@-");

    return n > 0 && n <= KL_HTTP_ID_MAX && id[n] == '\0';
}

/* Probes and scrapes: many, and of no interest while they go well. */
static bool is_routine(const struct kl_http_request *r)
{
    const char *path = r->raw;
    size_t      n = strcspn(path, "?");

    return strncmp(path, "/-/", 3) == 0 || (n == 6 && memcmp(path, "/ready", n) == 0) ||
           (n == 8 && (memcmp(path, "/metrics", n) == 0 || memcmp(path, "/version", n) == 0));
}

void kl_http_teller_meet(struct kl_http_teller *t, struct kl_http_request *r)
{
    const char *id = kl_http_header(r, "X-Request-Id");

    if (id != NULL && is_fit(id))
        strcpy(r->id, id);
    else
        snprintf(r->id, sizeof r->id, "%016" PRIx64, mix(t->salt + atomic_fetch_add(&t->made, 1)));
    kl_trace_enter(t->tracer, kl_http_header(r, "traceparent"), !is_routine(r), &r->trace,
                   r->trace_parent);
}

void kl_http_teller_why(struct kl_http_request *r, unsigned status, const char *type, const char *bytes,
                        size_t size)
{
    if (status < 500 || type == NULL ||
        (strncmp(type, "text/plain", 10) != 0 && strncmp(type, "application/json", 16) != 0))
        return;
    if (size > sizeof r->why - 1)
        size = sizeof r->why - 1;
    memcpy(r->why, bytes, size);
    while (size > 0 && (r->why[size - 1] == '\n' || r->why[size - 1] == '\r'))
        size--;
    r->why[size] = '\0';
}

static void put_span(struct kl_http_teller *t, const struct kl_http_request *r, int64_t begin_ns,
                     int64_t now_ns)
{
    struct kl_trace_span s;
    const char          *tenant = kl_http_header(r, "X-Scope-OrgID");

    kl_trace_span_begin(&s, &r->trace, r->trace_parent, r->route->path[0] != '\0' ? r->route->path
                        : "unknown path", KL_TRACE_SERVER, begin_ns);
    s.failed = r->status >= 500;
    kl_trace_span_text(&s, "http.request.method", kl_span_str(r->method != NULL ? r->method : ""));
    kl_trace_span_text(&s, "http.route", kl_span_str(r->route->path));
    kl_trace_span_number(&s, "http.response.status_code", r->status);
    kl_trace_span_text(&s, "koalemos.request_id", kl_span_str(r->id));
    if (tenant != NULL)
        kl_trace_span_text(&s, "koalemos.tenant", kl_span(tenant, strnlen(tenant, TENANT_TOLD_MAX)));
    if (s.failed)
        kl_trace_span_text(&s, "koalemos.answer", kl_span_str(r->why));
    kl_trace_span_end(t->tracer, &s, now_ns);
}

/* Is there room for one more line of a failure in this second? Counts it if there is not. */
static bool has_room(struct kl_http_teller *t, int64_t now_ns)
{
    int64_t now = now_ns / 1000000000, was = atomic_load(&t->second);

    if (was != now && atomic_compare_exchange_strong(&t->second, &was, now))
        atomic_store(&t->logged, 0);
    if (atomic_fetch_add(&t->logged, 1) < KL_HTTP_LOGGED_PER_S)
        return true;
    atomic_fetch_add(&t->left_out, 1);
    return false;
}

static void put_line(struct kl_http_teller *t, const struct kl_http_request *r, enum kl_level level,
                     int64_t micros)
{
    char        trace[33], words[64] = "";
    unsigned    left_out = r->status >= 500 ? atomic_exchange(&t->left_out, 0) : 0;
    const char *tenant = kl_http_header(r, "X-Scope-OrgID");
    size_t      path = strcspn(r->raw, "?");

    kl_trace_id_text(&r->trace, trace);
    if (left_out > 0)
        snprintf(words, sizeof words, "; %u more were not told", left_out);
    kl_log_event(t->log, level, (struct kl_log_field[]){
        kl_log_text("request_id", kl_span_str(r->id)),
        kl_log_text("trace_id", kl_span_str(trace)),
        kl_log_text("method", kl_span_str(r->method != NULL ? r->method : "")),
        kl_log_text("path", kl_span(r->raw, path < PATH_TOLD_MAX ? path : PATH_TOLD_MAX)),
        kl_log_number("status", r->status),
        kl_log_number("duration_us", micros),
        kl_log_text("tenant", kl_span(tenant, tenant != NULL ? strnlen(tenant, TENANT_TOLD_MAX) : 0)),
        kl_log_text("answer", kl_span_str(r->why)),
    }, 8, "answered %u%s", r->status, words);
}

void kl_http_teller_tell(struct kl_http_teller *t, const struct kl_http_request *r, int64_t now_ns)
{
    int64_t begin_ns = (int64_t)r->began.tv_sec * 1000000000 + r->began.tv_nsec;
    bool    failed = r->status >= 500;

    if (r->trace.on && r->verdict.status != 401)       /* a stranger's traceparent fills no queue of ours */
        put_span(t, r, begin_ns, now_ns);
    if (t->log == NULL || t->logs == KL_HTTP_LOG_NONE || (t->logs == KL_HTTP_LOG_ERRORS && !failed))
        return;
    if (is_routine(r)) {
        if (t->log->least <= KL_DEBUG)
            put_line(t, r, KL_DEBUG, (now_ns - begin_ns) / 1000);
    } else if (!failed || has_room(t, now_ns)) {
        put_line(t, r, failed ? KL_WARN : KL_INFO, (now_ns - begin_ns) / 1000);
    }
}
