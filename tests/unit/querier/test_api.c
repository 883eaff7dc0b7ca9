/* The query API over a real socket: envelopes, statuses, words, and whose data is answered. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libkoal/http/http.h"
#include "querier/api_priv.h"
#include "tests/suite.h"
#include "tests/unit/querier/cluster.h"

static struct cluster         c;
static struct kl_env         *env;
static struct kl_http_server *server;
static struct qr_http        *api;
static char                   body[1 << 20];
static unsigned               status;

static void put_data(void)
{
    static const char *const names[] = { "__name__", "job" }, *const jobs[] = { "a", "b" };
    static const char *const sets[] = { "__name__=up,job=a", "__name__=up,job=b" };
    struct series            s[2] = { line(sets[0], 1000000, 15000, 40, 1),
                                      line(sets[1], 1000000, 15000, 40, 100) };
    uint32_t                 p, count;

    tsp_placement_range(c.placement, kl_span_str("anonymous"), kl_span_str("up"), &p, &count);
    cluster_live(&c, p, s, 2, (struct tsp_page){ 0 });
    cluster_texts(&c, p, TSP_SEL_NAMES, names, 2);
    cluster_texts(&c, p, TSP_SEL_VALUES, jobs, 2);
    /* In fingerprint order, as an owner answers. */
    if (kl_fp_cmp(fp_of(sets[0]), fp_of(sets[1])) < 0)
        cluster_texts(&c, p, TSP_SEL_LABELS, sets, 2);
    else
        cluster_texts(&c, p, TSP_SEL_LABELS, (const char *const[]){ sets[1], sets[0] }, 2);
}

static void setup(void)
{
    struct kl_http_options o = { .listen = "127.0.0.1:0", .threads = 1 };
    struct kl_err          err;

    env = kl_env_real_new(2);
    cluster_init(&c, env);
    put_data();
    c.options.strong = true;
    server = kl_http_server_new(&o);
    cluster_start(&c);
    api = qr_http_new(c.q, server, env);
    ck_assert_msg(kl_http_server_start(server, &err) == KL_OK, "%s", err.text);
    for (unsigned i = 0; i < 5000 && !qr_ready(c.q, &err); i++)
        usleep(1000);
}

static void teardown(void)
{
    kl_http_server_stop(server, 1000);
    cluster_deinit(&c);
    qr_http_free(api);
    kl_http_server_free(server);
    kl_env_real_free(env);
}

static void ask(const char *method, const char *path, const char *headers, const char *form)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)kl_http_server_port(server)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    static char        text[(1 << 20) + 4096];
    int                fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t             size = 0;
    ssize_t            n;
    const char        *begin;

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s"
             "Content-Length: %zu\r\n\r\n%s", method, path, headers,
             form[0] != '\0' ? "Content-Type: application/x-www-form-urlencoded\r\n" : "",
             strlen(form), form);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    while (size < sizeof text - 1 && (n = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)n;
    close(fd);
    text[size] = '\0';
    ck_assert_int_eq(sscanf(text, "HTTP/1.1 %u", &status), 1);
    begin = strstr(text, "\r\n\r\n");
    ck_assert_ptr_nonnull(begin);
    snprintf(body, sizeof body, "%s", begin + 4);
}

static void get_path(const char *path)
{
    ask("GET", path, "", "");
}

static void has(const char *part)
{
    ck_assert_msg(strstr(body, part) != NULL, "no %s in %u %s", part, status, body);
}

/* "/label/{name}/values" of the document is "/label/{*}/values" of the routes. */
static bool told(const char *path)
{
    for (const struct qr_operation *o = qr_operations; o->path != NULL; o++)
        if (strcmp(o->path, path) == 0 ||
            (strcmp(o->path, "/label/{name}/values") == 0 && strcmp(path, "/label/*/values") == 0))
            return true;
    return false;
}

START_TEST(the_openapi_document_tells_of_every_route_and_of_no_other)
{
    size_t below = 0, told_of = 0;

    for (size_t i = 0; i < api->path_count; i++)
        if (strncmp(api->paths[i], "/api/v1/", 8) == 0) {
            ck_assert_msg(told(api->paths[i] + 7), "%s is not in the document", api->paths[i]);
            below++;
        }
    for (const struct qr_operation *o = qr_operations; o->path != NULL; o++)
        told_of++;
    ck_assert_uint_eq(told_of, below);
    get_path("/api/v1/openapi.yaml");
    ck_assert_uint_eq(status, 200);
    for (const struct qr_operation *o = qr_operations; o->path != NULL; o++)
        has(o->path);
}
END_TEST

/* 11,000 steps of two series are more than is made at once. */
START_TEST(a_large_answer_is_poured_whole_and_its_job_goes_with_it)
{
    char  *at = body, *to = body, *stats;
    size_t points = 0;

    get_path("/api/v1/query_range?query=up&start=1000&end=11999&step=1&lookback_delta=1d&stats=true");
    ck_assert_uint_eq(status, 200);
    while (at < body + sizeof body) {                  /* out of its chunks */
        size_t size = strtoull(at, &at, 16);

        at += 2;
        if (size == 0)
            break;
        memmove(to, at, size);
        to += size;
        at += size + 2;
    }
    *to = '\0';
    ck_assert_int_eq(strncmp(body, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":["
                                   "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"values\":[[1000,", 99), 0);
    stats = strstr(body, "]]}],\"stats\":{\"timings\":{");
    ck_assert_ptr_nonnull(stats);
    for (at = body; (at = strstr(at, ",\"")) != NULL && at < stats; at++)
        points += at[-1] >= '0' && at[-1] <= '9';
    ck_assert_uint_eq(points, 22000);
    ck_assert_int_eq(strcmp(to - 3, "}}}"), 0);
    for (unsigned i = 0; i < 5000 && atomic_load(&c.q->jobs) > 0; i++)
        usleep(1000);
    ck_assert_uint_eq(atomic_load(&c.q->jobs), 0);
}
END_TEST

START_TEST(a_search_answers_lines_and_a_trailer)
{
    get_path("/api/v1/search/label_names?search[]=jb&include_score=1&start=900&end=2000");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, "{\"results\":[{\"name\":\"job\",\"score\":0.41625}]}\n"
                           "{\"status\":\"success\",\"has_more\":false}\n");
    get_path("/api/v1/search/label_values?label=job&batch_size=1&limit=1&sort_by=alpha&sort_dir=dsc");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, "{\"results\":[{\"value\":\"b\"}]}\n"
                           "{\"status\":\"success\",\"has_more\":true}\n");
}
END_TEST

START_TEST(exemplars_of_a_query_without_a_selector_are_no_content)
{
    get_path("/api/v1/query_exemplars?query=1");
    ck_assert_uint_eq(status, 204);
}
END_TEST

START_TEST(csv_has_the_columns_that_are_asked_for)
{
    get_path("/api/v1/export/csv?match[]=up&start=1000&end=1015&"
             "format=job,__value__,__timestamp__:unix_ms,none");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, "a,1,1000000,\na,2,1015000,\nb,100,1000000,\nb,101,1015000,\n");
    get_path("/api/v1/export/csv?match[]=up&format=__timestamp__:custom:2006");
    ck_assert_uint_eq(status, 400);
}
END_TEST

START_TEST(an_instant_query_answers_prometheus_json)
{
    get_path("/api/v1/query?query=up&time=1015");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body,
                     "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":["
                     "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"value\":[1015,\"2\"]},"
                     "{\"metric\":{\"__name__\":\"up\",\"job\":\"b\"},\"value\":[1015,\"101\"]}"
                     "]}}");
}
END_TEST

START_TEST(a_range_query_answers_a_matrix)
{
    get_path("/prometheus/api/v1/query_range?query=sum(up)&start=1000&end=1030&step=15s");
    ck_assert_uint_eq(status, 200);
    has("\"resultType\":\"matrix\"");
    has("\"values\":[[1000,\"101\"],[1015,\"103\"],[1030,\"105\"]]");
}
END_TEST

START_TEST(a_posted_form_is_as_good_as_a_query_string)
{
    ask("POST", "/api/v1/query", "", "query=up%2B1&time=1015");
    ck_assert_uint_eq(status, 200);
    has("{\"metric\":{\"job\":\"a\"},\"value\":[1015,\"3\"]}");
}
END_TEST

static const struct { const char *path; unsigned status; const char *part; } errors[] = {
    { "/api/v1/query?query=up&time=x", 400,
      "\"errorType\":\"bad_data\",\"error\":\"invalid parameter \\\"time\\\": invalid time value "
      "for 'time': cannot parse \\\"x\\\" to a valid timestamp\"" },
    { "/api/v1/query?query=up&time=NaN", 400, "to a valid timestamp" },
    { "/api/v1/query?query=up&timeout=x", 400,
      "invalid parameter \\\"timeout\\\": cannot parse \\\"x\\\" to a valid duration" },
    { "/api/v1/query?query=up%7B", 400, "invalid parameter \\\"query\\\": 1:4: parse error: " },
    { "/api/v1/query", 400,
      "parse error: no expression found in input" },
    { "/api/v1/query?query=up&limit=-1", 400,
      "invalid parameter \\\"limit\\\": limit must be non-negative" },
    { "/api/v1/query_range?query=up&start=x&end=1&step=1", 400,
      "invalid parameter \\\"start\\\": cannot parse \\\"x\\\" to a valid timestamp" },
    { "/api/v1/query_range?query=up&end=1&step=1", 400,
      "invalid parameter \\\"start\\\": cannot parse \\\"\\\" to a valid timestamp" },
    { "/api/v1/query_range?query=up&start=10&end=1&step=1", 400,
      "invalid parameter \\\"end\\\": end timestamp must not be before start time" },
    { "/api/v1/query_range?query=up&start=1&end=10&step=0", 400,
      "invalid parameter \\\"step\\\": zero or negative query resolution step widths are not "
      "accepted. Try a positive integer" },
    { "/api/v1/query_range?query=up&start=1&end=10&step=-5", 400, "zero or negative" },
    { "/api/v1/query_range?query=up&start=1&end=100000&step=1", 400,
      "\"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "
      "resolution (?step=XX)\"" },
    { "/api/v1/query_range?query=up&start=1&end=10&step=1e300", 400, "It overflows int64" },
    { "/api/v1/series", 400, "\"no match[] parameter provided\"" },
    { "/api/v1/series?match[]=%7B%7D", 400,
      "match[] must contain at least one non-empty matcher" },
    { "/api/v1/labels?start=x", 400, "invalid parameter \\\"start\\\"" },
    { "/api/v1/labels?match[]=up%7B", 400, "invalid parameter \\\"match[]\\\": " },
    { "/api/v1/label/%ff/values", 400, "invalid label name" },
    { "/api/v1/metadata?limit=x", 400, "\"limit must be a number\"" },
    { "/api/v1/format_query?query=up%7B", 400, "parse error" },
    { "/api/v1/query_exemplars?query=up&start=3&end=2", 400,
      "end timestamp must not be before start timestamp" },
    { "/api/v1/rules?type=x", 400, "not supported value \\\"x\\\"" },
};

START_TEST(what_is_wrong_is_said_in_prometheus_words)
{
    get_path(errors[_i].path);
    ck_assert_uint_eq(status, errors[_i].status);
    has("{\"status\":\"error\",\"errorType\":\"bad_data\"");
    has(errors[_i].part);
}
END_TEST

START_TEST(label_names_values_and_series_are_listed)
{
    get_path("/api/v1/labels");
    ck_assert_str_eq(body, "{\"status\":\"success\",\"data\":[\"__name__\",\"job\"]}");
    get_path("/api/v1/label/job/values");
    ck_assert_str_eq(body, "{\"status\":\"success\",\"data\":[\"a\",\"b\"]}");
    get_path("/api/v1/series?match[]=up");
    ck_assert_str_eq(body, "{\"status\":\"success\",\"data\":[{\"__name__\":\"up\",\"job\":\"a\"},"
                           "{\"__name__\":\"up\",\"job\":\"b\"}]}");
}
END_TEST

START_TEST(a_limit_cuts_and_says_so)
{
    get_path("/api/v1/label/job/values?limit=1");
    ck_assert_str_eq(body, "{\"status\":\"success\",\"data\":[\"a\"],"
                           "\"warnings\":[\"results truncated due to limit\"]}");
    get_path("/api/v1/label/job/values?limit=2");
    ck_assert_str_eq(body, "{\"status\":\"success\",\"data\":[\"a\",\"b\"]}");
    get_path("/api/v1/query?query=up&time=1015&limit=1");
    has("\"warnings\":[\"results truncated due to limit\"]");
}
END_TEST

START_TEST(the_tenant_of_the_header_is_the_one_asked_for)
{
    uint32_t p, count;

    ask("GET", "/api/v1/query?query=up&time=1015", "X-Scope-OrgID: other\r\n", "");
    ck_assert_uint_eq(status, 200);
    tsp_placement_range(c.placement, kl_span_str("other"), kl_span_str("up"), &p, &count);
    ck_assert_str_eq(c.owners[p].last_tenant, "other");
    ck_assert_uint_eq(c.owners[p].last_consistency, TSP_READ_STRONG);
    ask("GET", "/api/v1/query?query=up", "X-Scope-OrgID: ../x\r\n", "");
    ck_assert_uint_eq(status, 400);
}
END_TEST

START_TEST(who_asks_after_a_write_asks_its_partitions_for_it_and_takes_nothing_older)
{
    char     token[200];
    uint32_t p, count, other;

    c.q->o.strong = false;
    tsp_placement_range(c.placement, kl_span_str("anonymous"), kl_span_str("up"), &p, &count);
    other = (p + 1) % PARTS;
    snprintf(token, sizeof token, "X-Koalemos-After: %u:120,%u:7,%u:88\r\n", p, other, p);
    ask("GET", "/api/v1/query?query=%7Bjob%3D%22a%22%7D&time=1015", token, "");
    ck_assert_uint_eq(status, 200);
    ck_assert(c.owners[p].last_consistency == TSP_READ_CAUSAL && c.owners[p].last_min_seq == 120);
    ck_assert(c.owners[other].last_consistency == TSP_READ_CAUSAL && c.owners[other].last_min_seq == 7);
    ck_assert_uint_eq(c.owners[(p + 2) % PARTS].last_consistency, TSP_READ_DEFAULT);
    for (int strict = 0; strict < 2; strict++) {       /* where it is not there yet */
        c.owners[p].fails = KL_EAGAIN;
        c.owners[p].fail_times = QR_ASK_TRIES;
        ask("GET", "/api/v1/query?query=up&time=1015", strict ? token : "", "");
        ck_assert_uint_eq(status, strict ? 503 : 200);
        ck_assert_uint_eq(c.owners[p].last_consistency, strict ? TSP_READ_CAUSAL : TSP_READ_ANY);
        c.owners[p].fail_times = 0;
    }
    ask("GET", "/api/v1/query?query=up", "X-Koalemos-After: strong\r\n", "");
    ck_assert_uint_eq(c.owners[p].last_consistency, TSP_READ_STRONG);
    for (int i = 0; i < 5; i++) {
        static const char *const wrong[] = { "1;2", "1:", "4096:1", "1:2,x", "-1:2" };

        snprintf(token, sizeof token, "X-Koalemos-After: %s\r\n", wrong[i]);
        ask("GET", "/api/v1/query?query=up", token, "");
        ck_assert_uint_eq(status, 400);
    }
}
END_TEST

START_TEST(an_owner_out_of_reach_is_503_in_strict_mode_and_a_warning_else)
{
    c.owners[3].fails = KL_EIO;
    c.owners[3].fail_times = 2;
    get_path("/api/v1/query?query=%7Bjob%3D%22a%22%7D&time=1015");
    ck_assert_uint_eq(status, 200);
    has("\"warnings\":[\"the answer is incomplete: partition 3: ");
    get_path("/api/v1/query?query=%7Bjob%3D%22a%22%7D&time=1015&partial_response=false");
    ck_assert_uint_eq(status, 503);
    has("\"errorType\":\"unavailable\"");
}
END_TEST

START_TEST(a_query_out_of_time_is_503)
{
    for (unsigned i = 0; i < PARTS; i++)
        c.owners[i].silent = true;
    get_path("/api/v1/query?query=up&timeout=50ms");
    ck_assert_uint_eq(status, 503);
    has("{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"query timed out");
}
END_TEST

static const struct { const char *path, *data; } fixed[] = {
    { "/api/v1/rules", "{\"groups\":[]}" },
    { "/api/v1/alerts", "{\"alerts\":[]}" },
    { "/api/v1/targets/metadata", "[]" },
    { "/api/v1/scrape_pools", "{\"scrapePools\":[]}" },
    { "/api/v1/metadata", "{}" },
    { "/api/v1/query_exemplars?query=up&start=1&end=2", "[]" },
    { "/api/v1/format_query?query=up%7B%7D", "\"up\"" },
    { "/api/v1/status/walreplay", "{\"min\":0,\"max\":0,\"current\":0}" },
    { "/prometheus/api/v1/alerts", "{\"alerts\":[]}" },
};

START_TEST(what_koalemos_has_not_is_valid_and_empty)
{
    char expected[300];

    get_path(fixed[_i].path);
    ck_assert_uint_eq(status, 200);
    snprintf(expected, sizeof expected, "{\"status\":\"success\",\"data\":%s}", fixed[_i].data);
    ck_assert_str_eq(body, expected);
}
END_TEST

static const struct { const char *path, *body; } counts[] = {
    { "/api/v1/series/count", "{\"status\":\"success\",\"data\":[2]}" },
    { "/api/v1/cardinality/label_names",
      "{\"label_values_count_total\":3,\"label_names_count\":2,\"cardinality\":["
      "{\"label_name\":\"job\",\"label_values_count\":2},"
      "{\"label_name\":\"__name__\",\"label_values_count\":1}]}" },
    { "/api/v1/cardinality/label_values?label_names[]=job&limit=1",
      "{\"series_count_total\":2,\"labels\":[{\"label_name\":\"job\","
      "\"label_values_count\":2,\"series_count\":2,\"cardinality\":["
      "{\"label_value\":\"a\",\"series_count\":1}]}]}" },
    { "/api/v1/cardinality/active_series?selector=up",
      "{\"data\":[{\"__name__\":\"up\",\"job\":\"a\"},"
      "{\"__name__\":\"up\",\"job\":\"b\"}]}" },
};

START_TEST(series_and_their_labels_are_counted)
{
    get_path(counts[_i].path);
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, counts[_i].body);
}
END_TEST

START_TEST(tsdb_status_names_the_largest)
{
    get_path("/api/v1/status/tsdb");
    has("\"numSeries\":2,\"numLabelPairs\":3,");
    has("\"seriesCountByMetricName\":[{\"name\":\"up\",\"value\":2}]");
    has("\"labelValueCountByLabelName\":[{\"name\":\"job\",\"value\":2},"
        "{\"name\":\"__name__\",\"value\":1}]");
    has("\"seriesCountByLabelValuePair\":[{\"name\":\"__name__=up\",\"value\":2},"
        "{\"name\":\"job=a\",\"value\":1},{\"name\":\"job=b\",\"value\":1}]");
    get_path("/api/v1/status/tsdb?limit=0");
    ck_assert_uint_eq(status, 400);
}
END_TEST

START_TEST(queries_that_ran_are_listed_to_their_own_tenant)
{
    get_path("/api/v1/query?query=up&time=1015");
    get_path("/api/v1/query?query=up&time=1030");
    get_path("/api/v1/status/top_queries?topN=1");
    has("\"topByCount\":[{\"query\":\"up\",\"timeRangeSeconds\":0,\"count\":2}]");
    ask("GET", "/api/v1/status/top_queries", "X-Scope-OrgID: other\r\n", "");
    has("\"topByCount\":[],");
    get_path("/api/v1/status/active_queries");
    ck_assert_str_eq(body, "{\"status\":\"ok\",\"data\":[]}");
}
END_TEST

START_TEST(a_query_of_many_operators_is_explained_whole)
{
    struct kl_buf path = { 0 };

    kl_buf_adds(&path, "/api/v1/query_explain?time=1015&query=up");
    for (int i = 0; i < 100; i++)
        kl_buf_addf(&path, "%%2Bvector(%d)", i);
    kl_buf_add8(&path, '\0');
    get_path(path.at);
    ck_assert_uint_eq(status, 200);
    has("\"operators\":[{\"id\":0,");
    has("{\"id\":300,\"operator\":\"binary\"");
    has("\"result\":{\"series\":0,");
    kl_buf_deinit(&path);
}
END_TEST

START_TEST(a_query_can_be_explained_as_json_and_as_text)
{
    get_path("/api/v1/query_explain?query=sum(rate(up%5B1m%5D))&start=1030&end=1060&step=15");
    ck_assert_uint_eq(status, 200);
    has("\"selectors\":[{\"need\":0,\"selector\":\"{__name__=\\\"up\\\"}\"");
    has("\"partitionsOf\":8,\"partitionsFailed\":0,\"live\":{\"pages\":1,\"bytes\":");
    has("\"filesets\":{\"read\":0,\"withoutMetric\":0,\"otherTenantOrTime\":0,");
    has("\"data\":{\"neededBytes\":0,\"memoryBytes\":0,");
    has("\"resultsCache\":{\"steps\":0,\"cachedSteps\":0,\"pieces\":0,\"passedBy\":\"the cache is off\"}");
    has("\"operators\":[{");
    has("\"nanoseconds\":");
    get_path("/api/v1/query_explain?query=up&time=1015&format=text");
    ck_assert_uint_eq(status, 200);
    has("need 0: {__name__=\"up\"}");
    has("1 of 8 partitions, 0 failed; live: 1 pages");
    get_path("/api/v1/query_explain?query=up%7B");
    ck_assert_uint_eq(status, 400);
}
END_TEST

START_TEST(stats_come_when_asked_for)
{
    get_path("/api/v1/query?query=up&time=1015&stats=all");
    has("\"stats\":{\"timings\":{\"evalTotalTime\":");
    has("\"totalQueryableSamplesPerStep\":[[1015,2]],\"totalQueryableSamples\":2,");
    get_path("/api/v1/query_range?query=up&start=1000&end=1015&step=15&stats=all");
    has("\"totalQueryableSamplesPerStep\":[[1000,2],[1015,2]],\"totalQueryableSamples\":4,");
    get_path("/api/v1/query?query=up&time=1015&stats=true");
    ck_assert_ptr_null(strstr(body, "PerStep"));
}
END_TEST

START_TEST(export_gives_a_line_a_series_with_its_own_times)
{
    get_path("/api/v1/export?match[]=up&start=1000&end=1015");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"values\":[1,2],"
                           "\"timestamps\":[1000000,1015000]}\n"
                           "{\"metric\":{\"__name__\":\"up\",\"job\":\"b\"},\"values\":[100,101],"
                           "\"timestamps\":[1000000,1015000]}\n");
}
END_TEST

START_TEST(openmetrics_has_its_types_once_and_an_end)
{
    get_path("/api/v1/export/openmetrics?match[]=up&start=1000&end=1015");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, "# TYPE up unknown\nup{job=\"a\"} 1 1000\nup{job=\"a\"} 2 1015\n"
                           "up{job=\"b\"} 100 1000\nup{job=\"b\"} 101 1015\n# EOF\n");
    get_path("/api/v1/export/openmetrics?match[]=up&part=1&start=1015&end=1015&metric=up");
    ck_assert_ptr_null(strchr(body, '#'));
}
END_TEST

START_TEST(federate_without_a_selector_is_empty_and_with_a_bad_one_an_error)
{
    get_path("/federate");
    ck_assert_uint_eq(status, 200);
    ck_assert_str_eq(body, "");
    get_path("/federate?match[]=up%7B");
    ck_assert_uint_eq(status, 400);
}
END_TEST

#define EACH(t, test, table) \
    tcase_add_loop_test(t, test, 0, (int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *s = suite_create("api");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_openapi_document_tells_of_every_route_and_of_no_other);
    tcase_add_test(t, a_large_answer_is_poured_whole_and_its_job_goes_with_it);
    tcase_add_test(t, a_search_answers_lines_and_a_trailer);
    tcase_add_test(t, exemplars_of_a_query_without_a_selector_are_no_content);
    tcase_add_test(t, csv_has_the_columns_that_are_asked_for);
    tcase_add_test(t, an_instant_query_answers_prometheus_json);
    tcase_add_test(t, a_range_query_answers_a_matrix);
    tcase_add_test(t, a_posted_form_is_as_good_as_a_query_string);
    EACH(t, what_is_wrong_is_said_in_prometheus_words, errors);
    tcase_add_test(t, label_names_values_and_series_are_listed);
    tcase_add_test(t, a_limit_cuts_and_says_so);
    tcase_add_test(t, the_tenant_of_the_header_is_the_one_asked_for);
    tcase_add_test(t, who_asks_after_a_write_asks_its_partitions_for_it_and_takes_nothing_older);
    tcase_add_test(t, an_owner_out_of_reach_is_503_in_strict_mode_and_a_warning_else);
    tcase_add_test(t, a_query_out_of_time_is_503);
    EACH(t, what_koalemos_has_not_is_valid_and_empty, fixed);
    EACH(t, series_and_their_labels_are_counted, counts);
    tcase_add_test(t, tsdb_status_names_the_largest);
    tcase_add_test(t, queries_that_ran_are_listed_to_their_own_tenant);
    tcase_add_test(t, a_query_can_be_explained_as_json_and_as_text);
    tcase_add_test(t, a_query_of_many_operators_is_explained_whole);
    tcase_add_test(t, stats_come_when_asked_for);
    tcase_add_test(t, export_gives_a_line_a_series_with_its_own_times);
    tcase_add_test(t, openmetrics_has_its_types_once_and_an_end);
    tcase_add_test(t, federate_without_a_selector_is_empty_and_with_a_bad_one_an_error);
    suite_add_tcase(s, t);
    return run_suite(s);
}
