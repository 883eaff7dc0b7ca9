#include "libkoal/app/app_priv.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "libkoal/base/json.h"

static const char plain[] = "text/plain; charset=utf-8";

static void healthy(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 200, plain, kl_span_str("healthy\n"));
}

static void ready(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_err err = { 0 };

    if (!atomic_load(&a->running))
        kl_fail(&err, KL_EAGAIN, "starting or stopping");
    else if (a->app.ready == NULL || a->app.ready(a->app.ctx, &err)) {
        kl_http_answer(r, 200, plain, kl_span_str("ready\n"));
        return;
    }
    kl_http_set(r, "Retry-After", "1");
    kl_http_answer(r, 503, plain, kl_span_str(err.text));
}

static double resident_bytes(void)
{
    unsigned long size, resident = 0;
    FILE         *f = fopen("/proc/self/statm", "re");

    if (f != NULL) {
        if (fscanf(f, "%lu %lu", &size, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double open_files(void)
{
    DIR   *d = opendir("/proc/self/fd");
    double n = -3;                                     /* ".", ".." and this one */

    if (d == NULL)
        return 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void metrics(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_buf out = { 0 };

    kl_gauge_set(a->resident, resident_bytes());
    kl_gauge_set(a->cpu, cpu_seconds());
    kl_gauge_set(a->open_fds, open_files());
    kl_metrics_write(a->app.metrics, &out);
    kl_http_answer_take(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static void version(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_buf out = { 0 };

    kl_buf_adds(&out, "{\"name\":");
    kl_json_cstr(&out, a->app.name);
    kl_buf_adds(&out, ",\"version\":\"" KL_APP_VERSION "\"}\n");
    kl_http_answer_take(r, 200, "application/json", &out);
}

static void quit(void *ctx, struct kl_http_request *r)
{
    struct app *a = ctx;
    ssize_t     n;

    if (!kl_http_is_local(r)) {
        kl_http_answer(r, 403, plain, kl_span_str("only this machine may stop the server\n"));
        return;
    }
    kl_http_answer(r, 200, plain, kl_span_str("stopping\n"));
    n = write(a->wake[1], "q", 1);
    (void)n;                                           /* full: somebody asked before */
}

void kl_app_routes(struct app *a)
{
    const struct kl_http_route routes[] = {
        { "GET", "/-/healthy", 0, healthy, a }, { "GET", "/-/ready", 0, ready, a },
        { "GET", "/ready", 0, ready, a },       { "GET", "/metrics", 0, metrics, a },
        { "GET", "/version", 0, version, a },   { "POST", "/-/quit", 1024, quit, a },
    };

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(a->app.http, &routes[i]);
    a->resident = kl_metrics_add(a->app.metrics, KL_GAUGE, "process_resident_memory_bytes", "",
                                 "Resident memory size in bytes.");
    a->cpu = kl_metrics_add(a->app.metrics, KL_GAUGE, "process_cpu_seconds_total", "",
                            "Total user and system CPU time spent in seconds.");
    a->open_fds = kl_metrics_add(a->app.metrics, KL_GAUGE, "process_open_fds", "",
                                 "Number of open file descriptors.");
}
