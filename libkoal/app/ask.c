/* One request to a service, for programs that do one thing and end: over libcurl, blocking. */
#include "libkoal/app/app.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 5000, TOKEN_MAX = 4096 };

static enum kl_code add_token(const char *path, struct curl_slist **headers, struct kl_err *err)
{
    char   line[TOKEN_MAX + 32] = "Authorization: Bearer ";
    size_t begin = strlen(line), size;
    FILE  *f;

    if (path == NULL)
        return KL_OK;
    f = fopen(path, "re");
    if (f == NULL)
        return kl_fail(err, KL_EIO, "the key's file %s: %s", path, strerror(errno));
    size = fread(line + begin, 1, TOKEN_MAX, f);
    fclose(f);
    line[begin + size] = '\0';
    line[begin + strcspn(line + begin, "\r\n")] = '\0';
    *headers = curl_slist_append(*headers, line);
    explicit_bzero(line, sizeof line);
    return KL_OK;
}

static size_t take(char *bytes, size_t one, size_t n, void *ctx)
{
    struct kl_buf *answer = ctx;

    (void)one;
    kl_buf_add(answer, bytes, n);
    return kl_buf_ok(answer) ? n : 0;
}

const char *kl_app_variable(const char *name) { return getenv(name); }

enum kl_code kl_app_ask(const struct kl_app_ask *q, struct kl_buf *answer, unsigned *status, struct kl_err *err)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/yaml");
    char     said[CURL_ERROR_SIZE] = "";
    CURL    *c;
    CURLcode code;
    long     got = 0;

    curl_global_init(CURL_GLOBAL_DEFAULT);             /* counted */
    c = curl_easy_init();
    if (c == NULL || add_token(q->token_file, &headers, err) != KL_OK) {
        if (c == NULL)
            kl_fail(err, KL_EAGAIN, "no memory for a request");
        curl_slist_free_all(headers);
        curl_easy_cleanup(c);
        curl_global_cleanup();
        return err->code;
    }
    curl_easy_setopt(c, CURLOPT_URL, q->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    if (strcmp(q->method, "GET") != 0) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.size);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body.size > 0 ? q->body.at : "");
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    }
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, said);
    if (q->ca_file != NULL)
        curl_easy_setopt(c, CURLOPT_CAINFO, q->ca_file);
    code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &got);
    curl_slist_free_all(headers);
    curl_easy_cleanup(c);
    curl_global_cleanup();
    *status = (unsigned)got;
    return code == CURLE_OK ? KL_OK
         : kl_fail(err, KL_EAGAIN, "%s: %s", q->url, said[0] != '\0' ? said : curl_easy_strerror(code));
}
