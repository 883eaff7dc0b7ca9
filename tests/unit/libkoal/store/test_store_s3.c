/*
 * libkoal/store/store_s3: signatures, and what it makes of a service that fails, refuses and lies. How
 * it gets on with a real one is in test_store.c.
 */
#include "libkoal/store/store.h"
#include "libkoal/store/store_s3_priv.h"

#include <check.h>
#include <sys/stat.h>

#include "tests/suite.h"
#include "tests/unit/libkoal/store/fake_s3.h"

/* ---- signatures ---- */

/* "Examples: Signature Calculations", Amazon S3 API reference, sigv4-header-based-auth. */
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
static const struct { struct kl_s3_request r; const char *signature; } published[] = {
    { { .method = "GET", .path = "/test.txt", .query = "", .payload = EMPTY, .header_count = 4,
        .headers = { { "host", "examplebucket.s3.amazonaws.com" }, { "range", "bytes=0-9" },
                     { "x-amz-content-sha256", EMPTY }, { "x-amz-date", "20130524T000000Z" } } },
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
    { { .method = "PUT", .path = "/test%24file.text", .query = "", .header_count = 5,
        .payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        .headers = { { "x-amz-storage-class", "REDUCED_REDUNDANCY" }, { "x-amz-date", "20130524T000000Z" },
                     { "date", "Fri, 24 May 2013 00:00:00 GMT" }, { "host", "examplebucket.s3.amazonaws.com" },
                     { "x-amz-content-sha256",
                       "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072" } } },
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd" },
    { { .method = "GET", .path = "/", .query = "lifecycle=", .payload = EMPTY, .header_count = 3,
        .headers = { { "host", "examplebucket.s3.amazonaws.com" }, { "x-amz-content-sha256", EMPTY },
                     { "x-amz-date", "20130524T000000Z" } } },
      "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
    { { .method = "GET", .path = "/", .query = "max-keys=2&prefix=J", .payload = EMPTY, .header_count = 3,
        .headers = { { "host", "examplebucket.s3.amazonaws.com" }, { "x-amz-content-sha256", EMPTY },
                     { "x-amz-date", "20130524T000000Z" } } },
      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
};

START_TEST(signatures_are_those_that_aws_published)
{
    struct kl_store_s3_keys keys = { .access = "AKIAIOSFODNN7EXAMPLE",
                                     .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" };
    struct kl_buf           b = { 0 };
    char                    date[KL_S3_DATE], want[200];

    kl_s3_date(1369353600000, date);
    ck_assert_str_eq(date, "20130524T000000Z");
    kl_s3_sign(&published[_i].r, &keys, "us-east-1", date, &b);
    kl_buf_add8(&b, '\0');
    snprintf(want, sizeof want, ",Signature=%s", published[_i].signature);
    ck_assert_ptr_nonnull(strstr(b.at, want));
    ck_assert_int_eq(memcmp(b.at, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
                                  "aws4_request,SignedHeaders=", 98), 0);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(hashes_and_encodings_are_the_canonical_ones)
{
    char          hex[KL_S3_HEX];
    struct kl_buf b = { 0 };

    kl_s3_sha256(kl_span(NULL, 0), hex);
    ck_assert_str_eq(hex, EMPTY);
    kl_s3_sha256(kl_span_str("Welcome to Amazon S3."), hex);
    ck_assert_str_eq(hex, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    kl_s3_encode("a/b=c d~-._%+", false, &b);
    kl_s3_encode("/\xc3\xa4", true, &b);
    kl_buf_add8(&b, '\0');
    ck_assert_str_eq(b.at, "a/b%3Dc%20d~-._%25%2B%2F%C3%A4");
    kl_buf_deinit(&b);
}
END_TEST

/* ---- lists ---- */

static char listed[400];
static void each(void *ctx, const char *key, uint64_t size)
{
    size_t n = strlen(listed);

    (void)ctx;
    snprintf(listed + n, sizeof listed - n, "%s:%d ", key, (int)size);
}

START_TEST(pages_of_a_list_are_read_in_either_encoding)
{
    static const char url[] = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated>"
        "<EncodingType>url</EncodingType><Contents><Key>a%3D1%2Fb+c</Key><Size>12</Size></Contents>"
        "<Contents><Size>0</Size><Owner><ID>Key</ID></Owner><Key>b%</Key></Contents>"
        "<NextContinuationToken>x&amp;y</NextContinuationToken></ListBucketResult>";
    static const char plain[] = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a&amp;b%20&#39;"
        "</Key><Size>7</Size></Contents><CommonPrefixes/></ListBucketResult>";
    struct kl_s3_page page;
    struct kl_err     err;

    listed[0] = '\0';
    ck_assert_int_eq(kl_s3_xml_list(kl_span_str(url), each, NULL, &page, &err), KL_OK);
    ck_assert_str_eq(listed, "a=1/b c:12 b%:0 ");
    ck_assert(page.more);
    ck_assert_str_eq(page.token, "x&y");
    listed[0] = '\0';
    ck_assert_int_eq(kl_s3_xml_list(kl_span_str(plain), each, NULL, &page, &err), KL_OK);
    ck_assert_str_eq(listed, "a&b%20':7 ");
    ck_assert(!page.more);
}
END_TEST

START_TEST(what_is_no_list_is_refused)
{
    static const char *const bad[] = {
        "", "<", "<html>", "<ListBucketResult>", "<ListBucketResult></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>99999999999999999999</Size></Contents>"
        "</ListBucketResult>",
    };
    struct kl_s3_page page;
    struct kl_err     err;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_eq(kl_s3_xml_list(kl_span_str(bad[i]), each, NULL, &page, &err), KL_EIO);
}
END_TEST

/* ---- a service that misbehaves ---- */

static struct kl_env  *env;
static struct fake     fake;
static struct kl_store *s;
static struct kl_err   err;
static char            folder[64], access_file[80], secret_file[80], token_file[80], endpoint[80];
static struct kl_store_s3_options o;

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void setup(void)
{
    fake = (struct fake){ 0 };
    fake_start(&fake);
    env = kl_env_real_new(1);
    strcpy(folder, "/tmp/s3-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(access_file, sizeof access_file, "%s/access", folder);
    snprintf(secret_file, sizeof secret_file, "%s/secret", folder);
    snprintf(token_file, sizeof token_file, "%s/token", folder);
    write_file(access_file, "THEACCESSKEY\n");
    write_file(secret_file, "THESECRETKEY\r\n");
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", fake.port);
    o = (struct kl_store_s3_options){
        .endpoint = endpoint, .region = "eu-here-1", .bucket = "bucket", .prefix = "p", .path_style = true,
        .conditional_put = KL_STORE_S3_ON, .access_key_file = access_file, .secret_key_file = secret_file,
        .stall_timeout_ms = 1000, .tries = 3 };
    s = NULL;
}

static void teardown(void)
{
    char command[100];

    fake_stop(&fake);
    if (s != NULL)
        s->close(s);
    kl_env_real_free(env);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

#define ANSWERS(...) do { \
    static const char *const all[] = { __VA_ARGS__ }; \
    memcpy(fake.answers, all, sizeof all); \
    fake.count = sizeof all / sizeof all[0]; \
    ck_assert_msg(kl_store_s3_open(env, &o, &s, &err) == KL_OK, "%s", err.text); \
} while (0)

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define PART(text) "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\n" text

static enum kl_code get4(char bytes[5])
{
    memset(bytes, 0, 5);
    return s->get(s, "a/b", 2, bytes, 4, &err);
}

/* An answer of exactly its Content-Length keeps the connection in step. */
static char errors[24][600];
static const char *error_answer(int i, const char *status, const char *code, const char *more)
{
    char body[300];

    snprintf(body, sizeof body, "<Error><Code>%s</Code><Message>the words</Message>%s</Error>", code, more);
    snprintf(errors[i], sizeof errors[i], "HTTP/1.1 %s\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\n"
             "Content-Length: %zu\r\n\r\n%s", status, strlen(body), body);
    return errors[i];
}

START_TEST(a_request_that_failed_is_sent_again)
{
    static const char *const failures[] = {
        "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Many\r\nContent-Length: 0\r\n\r\n", FAKE_RESET, FAKE_RESET,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwx",
        "not HTTP at all\r\n\r\nConnection: close", "HTTP/1.1 504 Gateway\r\nContent-Length: 0\r\n\r\n" };
    char bytes[5];

    ANSWERS(OK_EMPTY, PART("good"));
    fake.answers[0] = failures[_i];
    ck_assert_msg(get4(bytes) == KL_OK, "%s", err.text);
    ck_assert_str_eq(bytes, "good");
    ck_assert_uint_eq(fake.asked, 2);
    ck_assert_ptr_nonnull(strstr(fake.requests[1], "GET /bucket/p/a/b HTTP/1.1"));
    ck_assert_ptr_nonnull(strstr(fake.requests[1], "range: bytes=2-5"));
}
END_TEST

START_TEST(tries_are_bounded_and_the_words_name_no_key)
{
    char bytes[5];

    ANSWERS("HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n");
    ck_assert_int_eq(get4(bytes), KL_EAGAIN);
    ck_assert_uint_eq(fake.asked, 3);
    ck_assert_ptr_nonnull(strstr(err.text, "503"));
    ck_assert_ptr_null(strstr(err.text, "KEY"));
}
END_TEST

START_TEST(a_service_that_is_away_or_says_nothing_is_out_of_reach)
{
    char bytes[5];

    o.tries = 1;
    ANSWERS(FAKE_STALL);
    ck_assert_int_eq(get4(bytes), KL_EAGAIN);
    s->close(s);
    o.endpoint = "http://127.0.0.1:1";
    ck_assert_int_eq(kl_store_s3_open(env, &o, &s, &err), KL_OK);
    ck_assert_int_eq(get4(bytes), KL_EAGAIN);
    ck_assert_uint_eq(fake.asked, 1);
}
END_TEST

START_TEST(a_put_whose_answer_got_lost_is_recognised)
{
    ANSWERS("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 412 There\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nx-amz-meta-koalemos-put: MARK\r\n\r\n");
    ck_assert_msg(s->put(s, "k", kl_span_str("x"), &err) == KL_OK, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(fake.requests[0], "if-none-match: *"));
    ck_assert_ptr_nonnull(strstr(fake.requests[2], "HEAD /bucket/p/k "));
}
END_TEST

START_TEST(a_put_that_another_was_faster_with_is_not_ours)
{
    ANSWERS(FAKE_RESET, "HTTP/1.1 412 There\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nx-amz-meta-koalemos-put: 0123\r\n\r\n");
    ck_assert_int_eq(s->put(s, "k", kl_span_str("x"), &err), KL_EEXIST);
    ck_assert_uint_eq(fake.asked, 3);
}
END_TEST

START_TEST(parts_that_could_not_be_put_together_are_a_failure_though_the_answer_is_200)
{
    size_t size = KL_STORE_S3_PART_MIN + 1;
    char  *bytes = calloc(1, size);

    o.part_bytes = KL_STORE_S3_PART_MIN;
    ANSWERS("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n<InitiateX><UploadId>up&amp;1</UploadId></InitiateX>  ",
            "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nETag: \"2\"\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n<Error><Code>InternalError</Code></Error> ",
            "HTTP/1.1 204 Gone\r\n\r\n");
    ck_assert_int_eq(s->put(s, "k", kl_span(bytes, size), &err), KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(err.text, "InternalError"));
    ck_assert_ptr_nonnull(strstr(fake.requests[1], "POST /bucket/p/k?uploads= "));
    ck_assert_ptr_nonnull(strstr(fake.requests[3], "PUT /bucket/p/k?partNumber=2&uploadId=up%261 "));
    ck_assert_ptr_nonnull(strstr(fake.requests[4], "<Part><PartNumber>2</PartNumber><ETag>\"2\"</ETag></Part>"));
    ck_assert_ptr_nonnull(strstr(fake.requests[5], "DELETE /bucket/p/k?uploadId=up%261 "));
    free(bytes);
}
END_TEST

START_TEST(uploads_of_a_day_ago_that_nobody_ended_are_abandoned_and_nobody_elses)
{
    static const char xml[] = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><EncodingType>url</EncodingType>"
        "<Upload><Key>p%2Fa%2Fdata</Key><UploadId>up&amp;1</UploadId><Initiated>2020-01-02T03:04:05.678Z</Initiated></Upload>"
        "<Upload><Key>p%2Fb</Key><UploadId>2</UploadId><Initiated>2999-01-01T00:00:00Z</Initiated></Upload>"
        "<Upload><Key>other%2Fb</Key><UploadId>3</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>"
        "<Upload><Key>p%2Fno-age</Key><UploadId>4</UploadId></Upload>"
        "<Upload><Key>p%2F..%2Fb</Key><UploadId>5</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>"
        "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
    static char answer[1200];
    unsigned    count;

    snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", sizeof xml - 1, xml);
    ANSWERS("", "HTTP/1.1 204 Gone\r\n\r\n");
    fake.answers[0] = answer;
    ck_assert_msg(kl_store_s3_sweep(s, 86400000, &count, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(fake.asked, 2);
    ck_assert_ptr_nonnull(strstr(fake.requests[0], "GET /bucket/?max-uploads=1000&prefix=p%2F&uploads= "));
    ck_assert_ptr_nonnull(strstr(fake.requests[1], "DELETE /bucket/p/a/data?uploadId=up%261 "));
}
END_TEST

START_TEST(in_a_bucket_without_a_prefix_uploads_may_be_others_and_are_left_alone)
{
    unsigned count = 7;

    o.prefix = "";
    ANSWERS("HTTP/1.1 500 Asked\r\n\r\n");
    ck_assert_int_eq(kl_store_s3_sweep(s, 86400000, &count, &err), KL_OK);
    ck_assert_uint_eq(count, 0);
    ck_assert_uint_eq(fake.asked, 0);
}
END_TEST

START_TEST(refusals_are_sentences_that_say_what_to_do)
{
    static const struct { const char *status, *code, *more, *words; } refused[] = {
        { "404 Not Found", "NoSuchBucket", "", "no bucket \"bucket\"" },
        { "403 Forbidden", "RequestTimeTooSkewed", "", "set this machine's clock" },
        { "403 Forbidden", "SignatureDoesNotMatch", "", "secret key" },
        { "403 Forbidden", "InvalidAccessKeyId", "", "does not know our access key" },
        { "400 Bad Request", "ExpiredToken", "", "session token has expired" },
        { "403 Forbidden", "AccessDenied", "", "forbids GET of a/b" },
        { "400 Bad Request", "AuthorizationHeaderMalformed", "<Region>eu-there-2</Region>", "in region eu-there-2" },
        { "301 Moved", "PermanentRedirect", "", "301 PermanentRedirect: the words" },
    };
    char bytes[5];

    ANSWERS(OK_EMPTY);
    fake.answers[0] = error_answer(0, refused[_i].status, refused[_i].code, refused[_i].more);
    ck_assert_int_eq(get4(bytes), KL_EIO);
    ck_assert_msg(strstr(err.text, refused[_i].words) != NULL, "%s", err.text);
    ck_assert_ptr_null(strstr(err.text, "SECRET"));
    ck_assert_uint_eq(fake.asked, 1);
}
END_TEST

static int64_t late_ms(struct kl_env_clock *c) { (void)c; return 1369353600000 + 3600000; }

START_TEST(a_refused_clock_is_told_by_how_much_it_is_off)
{
    struct kl_env_clock clock = { .wall_ms = late_ms, .mono_ns = env->clock->mono_ns };
    struct kl_env       late = { .clock = &clock, .random = env->random, .sched = env->sched };
    char                bytes[5];

    fake.answers[0] = error_answer(0, "403 Forbidden", "RequestTimeTooSkewed", "");
    fake.count = 1;
    ck_assert_int_eq(kl_store_s3_open(&late, &o, &s, &err), KL_OK);
    ck_assert_int_eq(get4(bytes), KL_EIO);
    ck_assert_msg(strstr(err.text, "3600 s off") != NULL, "%s", err.text);
}
END_TEST

START_TEST(keys_that_were_replaced_are_read_anew_when_the_old_ones_are_refused)
{
    char bytes[5];

    ANSWERS(OK_EMPTY, PART("good"));
    fake.answers[0] = error_answer(0, "403 Forbidden", "InvalidAccessKeyId", "");
    write_file(access_file, "THENEXTKEY\n");
    ck_assert_msg(get4(bytes) == KL_OK, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(fake.requests[0], "Credential=THEACCESSKEY/"));
    ck_assert_ptr_nonnull(strstr(fake.requests[1], "Credential=THENEXTKEY/"));
}
END_TEST

START_TEST(a_session_token_is_sent_and_signed)
{
    char bytes[5];

    write_file(token_file, "a/long+token==\n");
    o.token_file = token_file;
    ANSWERS(PART("good"));
    ck_assert_int_eq(get4(bytes), KL_OK);
    ck_assert_ptr_nonnull(strstr(fake.requests[0], "x-amz-security-token: a/long+token==\r\n"));
    ck_assert_ptr_nonnull(strstr(fake.requests[0], "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;"
                                                   "x-amz-security-token,"));
}
END_TEST

START_TEST(a_bucket_may_be_a_part_of_the_hosts_name)
{
    char bytes[5];

    snprintf(endpoint, sizeof endpoint, "http://localhost:%d/", fake.port);
    o.path_style = false;
    ANSWERS(PART("good"));
    ck_assert_msg(get4(bytes) == KL_OK, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(fake.requests[0], "GET /p/a/b HTTP/1.1"));
    ck_assert_msg(strcasestr(fake.requests[0], "\nhost: bucket.localhost:") != NULL, "%s", fake.requests[0]);
}
END_TEST

static void *cancel_soon(void *ctx)
{
    (void)ctx;
    while (atomic_load(&fake.asked) == 0)
        usleep(1000);
    kl_store_cancel(s);
    return NULL;
}

START_TEST(a_cancel_ends_a_call_that_hangs)
{
    pthread_t t;
    char      bytes[5];

    o.stall_timeout_ms = 600000;
    ANSWERS(FAKE_STALL);
    ck_assert_int_eq(pthread_create(&t, NULL, cancel_soon, NULL), 0);
    ck_assert_int_eq(get4(bytes), KL_ECANCELED);
    pthread_join(t, NULL);
}
END_TEST

START_TEST(answers_that_cannot_be_are_errors)
{
    static const char *const odd[] = {
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 400\r\nConnection: close\r\n\r\nlongerthanitmaybe",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour",               /* the beginning, not the range */
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 301 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 Nothing\r\n\r\n" };
    char bytes[5];

    ANSWERS(OK_EMPTY);
    fake.answers[0] = odd[_i];
    ck_assert_int_eq(get4(bytes), KL_EIO);
    ck_assert_uint_eq(fake.asked, 1);
}
END_TEST

START_TEST(a_list_that_goes_on_where_it_began_is_an_error_and_no_endless_one)
{
    static const char body[] = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>p/a</Key>"
        "<Size>1</Size></Contents><NextContinuationToken>same</NextContinuationToken></ListBucketResult>";
    static char       page[400];

    snprintf(page, sizeof page, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    ANSWERS(OK_EMPTY);
    fake.answers[0] = page;
    listed[0] = '\0';
    ck_assert_int_eq(s->list(s, "", each, NULL, &err), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "goes on"));
    ck_assert_uint_eq(fake.asked, 2);
}
END_TEST

START_TEST(an_object_is_absent_only_where_the_bucket_is_there)
{
    uint64_t size;

    ANSWERS("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", OK_EMPTY);
    fake.answers[1] = error_answer(0, "404 Not Found", "NoSuchBucket", "");
    ck_assert_int_eq(s->head(s, "k", &size, &err), KL_EIO);
    ck_assert_msg(strstr(err.text, "no bucket \"bucket\"") != NULL, "%s", err.text);
}
END_TEST

/* libs3 says of none of them that they were cut short. */
START_TEST(a_list_that_came_cut_short_in_the_old_way_goes_on_behind_its_last_whole_key)
{
#define CUT(body) "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n" \
    "<?xml version=\"1.0\"?><ListBucketResult>" body
#define KEY(name) "<Contents><Key>p/" name "</Key><Size>1</Size></Contents>"
    static const char *const all[] = { CUT(""), CUT(KEY("a") KEY("b") "<Contents><Key>p/"),
                                       CUT(KEY("c") "</ListBucketResult>"), CUT("</ListBucketResult>") };
    static const char *const still = CUT(KEY("a"));

    memcpy(fake.answers, all, sizeof all);
    fake.count = 4;
    listed[0] = '\0';
    ck_assert_msg(kl_store_s3v2_open(env, &o, &s, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(s->list(s, "", each, NULL, &err) == KL_OK, "%s", err.text);
    ck_assert_str_eq(listed, "a:1 b:1 c:1 ");
    ck_assert_uint_eq(fake.asked, 4);
    ck_assert_ptr_nonnull(strstr(fake.requests[2], "marker=p/b"));
    listed[0] = '\0';
    ck_assert_int_eq(s->list(s, "", each, NULL, &err), KL_OK);          /* nothing, twice */
    ck_assert_str_eq(listed, "");
    ck_assert_uint_eq(fake.asked, 6);
    fake.answers[3] = still;
    ck_assert_int_eq(s->list(s, "", each, NULL, &err), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "does not move"));
}
END_TEST

/* Over libs3, which gives a request up that stands still for 15 s, and in no other way after an answer has begun. */
START_TEST(a_range_asked_for_again_in_the_old_way_is_the_same_range)
{
    char bytes[5] = "";

    if (getenv("KOA_LONG") == NULL) {
        fprintf(stderr, "SKIPPED: a range that stands still in the old way: it takes 15 s, and KOA_LONG is not set\n");
        return;
    }
    fake.answers[0] = "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nwx";
    fake.answers[1] = PART("good");
    fake.count = 2;
    ck_assert_msg(kl_store_s3v2_open(env, &o, &s, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(get4(bytes) == KL_OK, "%s", err.text);
    ck_assert_str_eq(bytes, "good");
    ck_assert_uint_eq(fake.asked, 2);
    ck_assert_ptr_nonnull(strcasestr(fake.requests[0], "Range: bytes=2-5"));
    ck_assert_msg(strcasestr(fake.requests[1], "Range: bytes=2-5") != NULL, "%s", fake.requests[1]);
}
END_TEST

START_TEST(options_that_cannot_be_are_refused)
{
    struct kl_store_s3_options good = o;
    const struct { const char **at, *value; } bad[] = {
        { &o.bucket, "" }, { &o.bucket, "A_B" }, { &o.bucket, "a/b" }, { &o.bucket, NULL },
        { &o.region, "" }, { &o.region, "eu west" }, { &o.prefix, "a//b" }, { &o.prefix, "/a" },
        { &o.prefix, "a b" }, { &o.endpoint, "localhost:1" }, { &o.endpoint, "ftp://a" },
        { &o.endpoint, "http://" }, { &o.endpoint, "http://a:b@c" }, { &o.endpoint, "http://a/b" },
        { &o.secret_key_file, NULL }, { &o.access_key_file, "/no/such/file" }, { &o.token_file, folder } };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        o = good;
        *bad[i].at = bad[i].value;
        ck_assert_msg(kl_store_s3_open(env, &o, &s, &err) == KL_EINVAL, "%zu", i);
        s = NULL;
    }
    o = good;
    write_file(secret_file, "\n");
    ck_assert_int_eq(kl_store_s3_open(env, &o, &s, &err), KL_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libkoal/store/store_s3");
    TCase *pure = tcase_create("pure"), *t = tcase_create("service");

    tcase_add_loop_test(pure, signatures_are_those_that_aws_published, 0, 4);
    tcase_add_test(pure, hashes_and_encodings_are_the_canonical_ones);
    tcase_add_test(pure, pages_of_a_list_are_read_in_either_encoding);
    tcase_add_test(pure, what_is_no_list_is_refused);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_request_that_failed_is_sent_again, 0, 8);
    tcase_add_test(t, tries_are_bounded_and_the_words_name_no_key);
    tcase_add_test(t, a_service_that_is_away_or_says_nothing_is_out_of_reach);
    tcase_add_test(t, a_put_whose_answer_got_lost_is_recognised);
    tcase_add_test(t, a_put_that_another_was_faster_with_is_not_ours);
    tcase_add_test(t, uploads_of_a_day_ago_that_nobody_ended_are_abandoned_and_nobody_elses);
    tcase_add_test(t, in_a_bucket_without_a_prefix_uploads_may_be_others_and_are_left_alone);
    tcase_add_test(t, parts_that_could_not_be_put_together_are_a_failure_though_the_answer_is_200);
    tcase_add_loop_test(t, refusals_are_sentences_that_say_what_to_do, 0, 8);
    tcase_add_test(t, a_refused_clock_is_told_by_how_much_it_is_off);
    tcase_add_test(t, keys_that_were_replaced_are_read_anew_when_the_old_ones_are_refused);
    tcase_add_test(t, a_session_token_is_sent_and_signed);
    tcase_add_test(t, a_bucket_may_be_a_part_of_the_hosts_name);
    tcase_add_test(t, a_cancel_ends_a_call_that_hangs);
    tcase_add_loop_test(t, answers_that_cannot_be_are_errors, 0, 6);
    tcase_add_test(t, a_list_that_goes_on_where_it_began_is_an_error_and_no_endless_one);
    tcase_add_test(t, an_object_is_absent_only_where_the_bucket_is_there);
    tcase_add_test(t, a_list_that_came_cut_short_in_the_old_way_goes_on_behind_its_last_whole_key);
    tcase_add_test(t, a_range_asked_for_again_in_the_old_way_is_the_same_range);
    tcase_add_test(t, options_that_cannot_be_are_refused);
    suite_add_tcase(suite, pure);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
