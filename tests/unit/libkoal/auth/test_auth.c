#include "libkoal/auth/auth.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char            folder[64], file[100];
static struct kl_auth *auth;
static struct kl_err   err;
static int64_t         now;
static char            of_a[KL_AUTH_SHOWN_MAX], of_all[KL_AUTH_SHOWN_MAX], slow[KL_AUTH_SHOWN_MAX];

static int64_t time_of(void *ctx)
{
    (void)ctx;
    return now;
}

static void add(const char *roles, const char *tenants, uint32_t rate, char *shown)
{
    struct kl_buf line = { 0 };

    ck_assert_int_eq(kl_auth_key_new(roles, tenants, rate, &line, shown, &err), KL_OK);
    kl_buf_add(&line, "", 1);
    ck_assert_int_eq(kl_auth_file_add(file, line.at, &err), KL_OK);
    kl_buf_deinit(&line);
}

static void setup(void)
{
    strcpy(folder, "/tmp/koalemos-auth-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/keys", folder);
    now = 1000000;
    add("read,write", "a,b", 0, of_a);
    add("read,admin", "*", 0, of_all);
    add("read", "a", 2, slow);
    ck_assert_int_eq(kl_auth_open(&(struct kl_auth_options){ .keys_file = file, .now_ms = time_of }, &auth, &err), KL_OK);
}

static void teardown(void)
{
    kl_auth_close(auth);
    unlink(file);
    rmdir(folder);
}

static struct kl_guard_verdict ask(const char *shown, const char *method, const char *route, const char *tenant)
{
    const struct kl_guard  *g = kl_auth_guard(auth);
    struct kl_guard_verdict v = { 0 };
    char                    header[300];
    struct kl_guard_ask     a = { .method = method, .route = route, .path = "/x", .tenant = tenant, .peer = "::1" };

    snprintf(header, sizeof header, "Bearer %s", shown != NULL ? shown : "");
    a.authorization = shown != NULL ? header : NULL;
    g->judge(g->ctx, &a, &v);
    return v;
}

START_TEST(what_is_not_said_to_be_allowed_is_refused)
{
    ck_assert_uint_eq(ask(NULL, "GET", "/-/healthy", NULL).status, 0);
    ck_assert_uint_eq(ask(NULL, "GET", "/metrics", NULL).status, 401);
    ck_assert_uint_eq(ask(NULL, "GET", NULL, NULL).status, 401);
    ck_assert_uint_eq(ask(of_all, "GET", NULL, NULL).status, 0);
    ck_assert_uint_eq(ask(of_all, "GET", "/api/v1/made/yesterday", NULL).status, 403);
    ck_assert_uint_eq(ask(of_all, "POST", "/api/v1/write", NULL).status, 403);
    ck_assert_uint_eq(ask("x.y", "GET", "/metrics", NULL).status, 401);
}
END_TEST

START_TEST(the_key_says_the_tenant_where_the_request_does_not)
{
    struct kl_guard_verdict v = ask(of_a, "POST", "/api/v1/write", NULL);

    ck_assert_uint_eq(v.status, 0);
    ck_assert_str_eq(v.tenant, "a");
    ck_assert_uint_eq(strlen(v.key), 16);
    ck_assert_str_eq(ask(of_a, "POST", "/api/v1/write", "").tenant, "a");
    ck_assert_str_eq(ask(of_a, "POST", "/api/v1/write", "b").tenant, "");      /* as it asks */
    ck_assert_uint_eq(ask(of_a, "POST", "/api/v1/write", "c").status, 403);
    ck_assert_str_eq(ask(of_all, "GET", "/api/v1/query", NULL).tenant, "anonymous");
    ck_assert_uint_eq(ask(of_all, "GET", "/api/v1/query", "any").status, 0);
    ck_assert_uint_eq(ask(of_a, "GET", "/metrics", "a").status, 403);
}
END_TEST

START_TEST(a_rate_is_kept_and_filled_again_by_time)
{
    const char *q = "/api/v1/query";

    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 0);
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 0);
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 429);
    now += 499;
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 429);
    now += 1;
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 0);
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 429);
    ck_assert_uint_eq(ask(of_a, "GET", q, NULL).status, 0);
    add("read", "z", 0, of_all);                       /* another key changes nothing for this one */
    ck_assert_int_eq(kl_auth_reload(auth, NULL, &err), KL_OK);
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 429);
    now += 1000000;
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 0);
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 0);
    ck_assert_uint_eq(ask(slow, "GET", q, NULL).status, 429);
}
END_TEST

START_TEST(a_file_that_is_bad_leaves_what_was_known)
{
    char  id[KL_GUARD_KEY_MAX + 1];
    bool  changed = true;
    FILE *f;

    ck_assert_int_eq(kl_auth_reload(auth, &changed, &err), KL_OK);
    ck_assert(!changed);
    f = fopen(file, "a");
    fputs("x\n", f);
    fclose(f);
    ck_assert_int_eq(kl_auth_reload(auth, &changed, &err), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "line 5"));
    ck_assert_uint_eq(ask(of_a, "GET", "/api/v1/query", NULL).status, 0);
    unlink(file);
    ck_assert_int_eq(kl_auth_reload(auth, &changed, &err), KL_ENOENT);
    ck_assert_uint_eq(ask(of_a, "GET", "/api/v1/query", NULL).status, 0);
    add("read", "a", 0, slow);
    memcpy(id, of_a, 16);
    id[16] = '\0';
    ck_assert_int_eq(kl_auth_file_remove(file, id, &err), KL_ENOENT);
    ck_assert_int_eq(kl_auth_reload(auth, &changed, &err), KL_OK);
    ck_assert(changed);
    ck_assert_uint_eq(ask(of_a, "GET", "/api/v1/query", NULL).status, 401);
}
END_TEST

START_TEST(a_role_of_rules_asks_expressions_and_writes_what_came_of_them_and_no_more)
{
    static const struct { const char *method, *route; unsigned status; } all[] = {
        { "POST", "/api/v1/query", 0 }, { "GET", "/api/v1/query_range", 0 }, { "POST", "/api/v1/write", 0 },
        { "POST", "/api/v1/push", 0 }, { "GET", "/api/v1/rules", 0 }, { "GET", "/api/v1/alerts", 0 },
        { "GET", "/api/v1/labels", 403 }, { "GET", "/api/v1/series", 403 }, { "POST", "/api/v1/read", 403 },
        { "GET", "/api/v1/export", 403 }, { "GET", "/federate", 403 }, { "POST", "/api/v1/import", 403 },
        { "POST", "/api/v1/otlp/v1/metrics", 403 }, { "POST", "/api/v1/admin/tsdb/delete_series", 403 },
        { "GET", "/metrics", 403 },
    };
    char rules[200];

    add("rules", "a", 0, rules);
    ck_assert_int_eq(kl_auth_reload(auth, &(bool){ false }, &err), KL_OK);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_assert_msg(ask(rules, all[i].method, all[i].route, NULL).status == all[i].status, "%s", all[i].route);
    ck_assert_uint_eq(ask(rules, "GET", "/api/v1/query", "b").status, 403);
}
END_TEST

START_TEST(an_order_that_cannot_be_recorded_is_not_carried_out)
{
    struct kl_audit_options o = { .folder = folder, .name = "t" };
    struct kl_audit *audit;
    uint64_t         count;
    char             last[65], path[200];

    ck_assert_int_eq(kl_audit_open(&o, &audit, &err), KL_OK);
    kl_auth_audit(auth, audit);
    ck_assert_uint_eq(ask(of_all, "POST", "/api/v1/koalemos/drain", NULL).status, 0);
    ck_assert_uint_eq(ask(of_all, "GET", "/api/v1/query", NULL).status, 0);
    ck_assert_uint_eq(ask(of_a, "POST", "/api/v1/koalemos/drain", NULL).status, 403);
    kl_audit_close(audit);
    ck_assert_int_eq(kl_audit_verify(folder, "t", kl_span_str(""), false, NULL, &count, last, &err), KL_OK);
    ck_assert_uint_eq(count, 4);                       /* start, order, refused, stop */

    o.file_bytes = 1;                                  /* a new file a record; and then none can be made */
    ck_assert_int_eq(kl_audit_open(&o, &audit, &err), KL_OK);
    kl_auth_audit(auth, audit);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    ck_assert_int_eq(system(path), 0);
    ck_assert_uint_eq(ask(of_all, "POST", "/api/v1/koalemos/drain", NULL).status, 503);
    ck_assert_uint_eq(ask(of_all, "GET", "/api/v1/query", NULL).status, 0);
    kl_audit_close(audit);
}
END_TEST

/* A crash may come before it is done: then the order's record alone says whose data it was about. */
START_TEST(an_orders_record_says_the_tenant_that_the_key_says)
{
    struct kl_audit_options o = { .folder = folder, .name = "t" };
    struct kl_audit *audit;
    char             shown[KL_AUTH_SHOWN_MAX], path[200], text[4096] = "";
    FILE            *f;

    add("admin", "team-7,b", 0, shown);
    ck_assert_int_eq(kl_auth_reload(auth, NULL, &err), KL_OK);
    ck_assert_int_eq(kl_audit_open(&o, &audit, &err), KL_OK);
    kl_auth_audit(auth, audit);
    ck_assert_uint_eq(ask(shown, "POST", "/api/v1/admin/tsdb/delete_series", NULL).status, 0);
    snprintf(path, sizeof path, "%s/t-000001.audit", folder);
    ck_assert_ptr_nonnull(f = fopen(path, "r"));
    ck_assert_uint_gt(fread(text, 1, sizeof text - 1, f), 0);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "\"event\":\"order\""));
    ck_assert_msg(strstr(text, "\"tenant\":\"team-7\"") != NULL, "%s", text);
    kl_audit_close(audit);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    ck_assert_int_eq(system(path), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("auth");
    TCase *t = tcase_create("auth");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_not_said_to_be_allowed_is_refused);
    tcase_add_test(t, the_key_says_the_tenant_where_the_request_does_not);
    tcase_add_test(t, a_rate_is_kept_and_filled_again_by_time);
    tcase_add_test(t, a_file_that_is_bad_leaves_what_was_known);
    tcase_add_test(t, a_role_of_rules_asks_expressions_and_writes_what_came_of_them_and_no_more);
    tcase_add_test(t, an_order_that_cannot_be_recorded_is_not_carried_out);
    tcase_add_test(t, an_orders_record_says_the_tenant_that_the_key_says);
    suite_add_tcase(s, t);
    return run_suite(s);
}
