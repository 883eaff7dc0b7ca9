/*
 * The routes of formats that came from elsewhere: Influx lines (v1 and v2, with as much of InfluxDB's API
 * beside them as its clients ask for before they write), JSON lines, CSV.
 */
#include "doorman/http_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "doorman/forms.h"
#include "libkoal/base/json.h"

/* What we say we are to Influx clients: the version whose write API this is. */
#define INFLUX_VERSION "1.8.10"
enum { QUERY_BODY_MAX = 64 * 1024 };

static void say_json(struct kl_http_request *r, unsigned status, struct kl_buf *json)
{
    kl_http_set(r, "X-Influxdb-Version", INFLUX_VERSION);
    kl_http_set(r, "X-Influxdb-Build", "OSS");
    kl_http_answer(r, status, "application/json", kl_buf_span(json));
    kl_buf_deinit(json);
}

static void influx_error(struct kl_http_request *r, bool v2, unsigned status, const char *words)
{
    struct kl_buf b = { 0 };

    if (v2)
        kl_buf_addf(&b, "{\"code\":\"%s\",\"message\":", status == 400   ? "invalid"
                                                     : status == 413 ? "request too large"
                                                     : status == 429 ? "too many requests"
                                                                     : "unavailable");
    else
        kl_buf_adds(&b, "{\"error\":");
    kl_json_cstr(&b, words);
    kl_buf_adds(&b, "}\n");
    say_json(r, status, &b);
}

/* ---- Influx lines ---- */

static void influx_answer(struct dm_call *c, bool v2)
{
    struct kl_buf words = { 0 }, none = { 0 };

    if (c->push.status == 204) {
        say_json(c->request, 204, &none);
        return;
    }
    /* Its clients look for these words, and do not send again. */
    if (c->push.status == 400)
        kl_buf_adds(&words, "partial write: ");
    kl_buf_adds(&words, c->push.text);
    kl_buf_add8(&words, '\0');
    influx_error(c->request, v2, c->push.status, words.at);
    kl_buf_deinit(&words);
}

static void influx_answer_v1(struct dm_call *c) { influx_answer(c, false); }
static void influx_answer_v2(struct dm_call *c) { influx_answer(c, true); }

static void influx_write(struct dm_http *h, struct kl_http_request *r, bool v2)
{
    const char     *db = kl_http_param(r, v2 ? "bucket" : "db", 0);
    enum tsp_coding coding;
    struct dm_call *c;
    int64_t         unit_ns;

    if (!dm_influx_unit(kl_http_param(r, "precision", 0), &unit_ns)) {
        influx_error(r, v2, 400, "precision is ns, us, ms, s, m or h");
        return;
    }
    if (!dm_http_coding(r, &coding))
        return;
    c = dm_http_call(h, r, DM_INFLUX, 0);
    c->answer = v2 ? influx_answer_v2 : influx_answer_v1;
    c->push.import.unit_ns = unit_ns;
    if (db != NULL)
        c->push.import.db = kl_span_str(db);
    dm_http_take(h, c, coding);
}

static void influx_write_v1(void *ctx, struct kl_http_request *r) { influx_write(ctx, r, false); }
static void influx_write_v2(void *ctx, struct kl_http_request *r) { influx_write(ctx, r, true); }

static void influx_ping(void *ctx, struct kl_http_request *r)
{
    struct kl_buf none = { 0 };

    (void)ctx;
    say_json(r, 204, &none);
}

static const char *skip_blanks(const char *at) { return at + strspn(at, " \t\r\n;"); }

/* Does the statement begin with these words? */
static bool begins(const char *statement, const char *first, const char *second)
{
    size_t n = strlen(first);

    statement = skip_blanks(statement);
    if (strncasecmp(statement, first, n) != 0)
        return false;
    statement = skip_blanks(statement + n);
    return strncasecmp(statement, second, strlen(second)) == 0;
}

/* Agents make their database before they write, shells ask which there are: a database is made by
 * writing to it, and is no more than a label. Every other statement is refused in words. */
static void influx_query(void *ctx, struct kl_http_request *r)
{
    const char   *q = kl_http_param(r, "q", 0), *db = kl_http_param(r, "db", 0);
    struct kl_buf b = { 0 };

    (void)ctx;
    if (q == NULL || *skip_blanks(q) == '\0') {
        influx_error(r, false, 400, "missing required parameter \"q\"");
        return;
    }
    kl_buf_adds(&b, "{\"results\":[{\"statement_id\":0");
    if (begins(q, "SHOW", "DATABASES")) {
        kl_buf_adds(&b, ",\"series\":[{\"name\":\"databases\",\"columns\":[\"name\"],\"values\":[");
        if (db != NULL && db[0] != '\0') {
            kl_buf_adds(&b, "[");
            kl_json_cstr(&b, db);
            kl_buf_adds(&b, "]");
        }
        kl_buf_adds(&b, "]}]");
    } else if (!begins(q, "CREATE", "DATABASE")) {
        kl_buf_adds(&b, ",\"error\":\"InfluxQL is not spoken here: ask /api/v1/query in PromQL\"");
    }
    kl_buf_adds(&b, "}]}\n");
    say_json(r, 200, &b);
}

/* ---- JSON lines and CSV ---- */

static void import_json(void *ctx, struct kl_http_request *r)
{
    enum tsp_coding coding;

    if (dm_http_coding(r, &coding))
        dm_http_take(ctx, dm_http_call(ctx, r, DM_JSONL, 0), coding);
}

static void free_format(struct dm_call *c)
{
    tsp_csv_format_free((struct tsp_csv_format *)c->push.import.csv);
}

static void import_csv(void *ctx, struct kl_http_request *r)
{
    const char            *format = kl_http_param(r, "format", 0);
    struct tsp_csv_format *f;
    enum tsp_coding        coding;
    struct dm_call        *c;
    struct kl_err          err;

    if (format == NULL) {
        dm_http_say(r, 400, "what the columns are is missing: ?format=1:label:host,2:metric:load,3:time:unix_s\n");
        return;
    }
    if (!dm_http_coding(r, &coding))
        return;
    if (tsp_csv_format_parse(format, &f, &err) != KL_OK) {
        dm_http_say(r, 400, err.text);
        return;
    }
    c = dm_http_call(ctx, r, DM_CSV, 0);
    c->push.import.csv = f;
    c->release = free_format;
    dm_http_take(ctx, c, coding);
}

void dm_http_import_routes(struct dm_http *h, struct kl_http_server *s, const _Atomic size_t *body_max)
{
    const struct kl_http_route routes[] = {
        { "POST", "/write", 0, influx_write_v1, h, true, .body_max = body_max },
        { "POST", "/api/v2/write", 0, influx_write_v2, h, true, .body_max = body_max },
        { "GET,HEAD", "/ping", 0, influx_ping, h, false },
        { "GET,POST", "/query", QUERY_BODY_MAX, influx_query, h, false },
        { "POST", "/api/v1/import", 0, import_json, h, true, .body_max = body_max },
        { "POST", "/api/v1/import/csv", 0, import_csv, h, true, .body_max = body_max },
    };

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(s, &routes[i]);
}
