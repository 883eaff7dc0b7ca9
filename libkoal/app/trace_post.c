/* One POST to a collector, after another, over one kept connection: the exporter's thread calls. */
#include "libkoal/app/trace_priv.h"

#include <curl/curl.h>

#include <stdio.h>
#include <stdlib.h>

enum { CONNECT_MS = 2000, TOKEN_MAX = 4096, WORDS_MAX = 200 };

struct kl_app_post {
    CURL *c;
    char *url, *ca_file, *token_file;
    char  said[CURL_ERROR_SIZE];
};

struct kl_app_post *kl_app_post_new(const char *url, const char *ca_file, const char *token_file)
{
    struct kl_app_post *p = kl_new(sizeof *p);

    curl_global_init(CURL_GLOBAL_DEFAULT);             /* counted */
    p->url = kl_strdup(url);
    p->ca_file = ca_file != NULL ? kl_strdup(ca_file) : NULL;
    p->token_file = token_file != NULL ? kl_strdup(token_file) : NULL;
    return p;
}

void kl_app_post_free(struct kl_app_post *p)
{
    if (p == NULL)
        return;
    curl_easy_cleanup(p->c);
    curl_global_cleanup();
    free(p->url);
    free(p->ca_file);
    free(p->token_file);
    free(p);
}

/* Read anew each time: a token is replaced while we run. */
static enum kl_code add_token(struct kl_app_post *p, struct curl_slist **headers, struct kl_err *err)
{
    char   line[TOKEN_MAX + 32] = "Authorization: Bearer ";
    size_t begin = strlen(line), size;
    FILE  *f;

    if (p->token_file == NULL)
        return KL_OK;
    f = fopen(p->token_file, "re");
    if (f == NULL)
        return kl_fail(err, KL_EIO, "trace.token.file %s cannot be read", p->token_file);
    size = fread(line + begin, 1, TOKEN_MAX, f);
    fclose(f);
    line[begin + size] = '\0';
    line[begin + strcspn(line + begin, "\r\n")] = '\0';
    *headers = curl_slist_append(*headers, line);
    explicit_bzero(line, sizeof line);
    return KL_OK;
}

struct words { char text[WORDS_MAX + 1]; size_t size; };
static size_t take(char *bytes, size_t one, size_t n, void *ctx)
{
    struct words *w = ctx;
    size_t        room = WORDS_MAX - w->size, k = n < room ? n : room;

    (void)one;
    for (size_t i = 0; i < k; i++)
        w->text[w->size++] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : ' ';
    return n;
}

/* A collector, or a proxy, may repeat what it was sent: then its words are not repeated here. Eight bytes
 * of a token are looked for, since its end may be cut off. */
static bool repeats_token(const struct words *w, const struct curl_slist *headers)
{
    static const char name[] = "Authorization: Bearer ";

    for (; headers != NULL; headers = headers->next) {
        char begin[9] = "";

        if (strncmp(headers->data, name, sizeof name - 1) != 0)
            continue;
        snprintf(begin, sizeof begin, "%s", headers->data + sizeof name - 1);
        if (strstr(w->text, begin) != NULL)
            return true;
    }
    return false;
}

enum kl_code kl_app_post_send(struct kl_app_post *p, struct kl_span body, int64_t timeout_ms,
                              struct kl_err *err)
{
    struct curl_slist *headers = NULL;
    struct words       words = { .size = 0 };
    CURLcode           code;
    long               status = 0;

    if (p->c == NULL && (p->c = curl_easy_init()) == NULL)
        return kl_fail(err, KL_EAGAIN, "trace.otlp_url: no memory for a request");
    curl_easy_reset(p->c);                             /* its connection stays */
    headers = curl_slist_append(headers, "Content-Type: application/x-protobuf");
    if (add_token(p, &headers, err) != KL_OK) {
        curl_slist_free_all(headers);
        return err->code;
    }
    p->said[0] = '\0';
    curl_easy_setopt(p->c, CURLOPT_URL, p->url);
    curl_easy_setopt(p->c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(p->c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(p->c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(p->c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.size);
    curl_easy_setopt(p->c, CURLOPT_POSTFIELDS, body.at);
    curl_easy_setopt(p->c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(p->c, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(p->c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(p->c, CURLOPT_WRITEDATA, &words);
    curl_easy_setopt(p->c, CURLOPT_ERRORBUFFER, p->said);
    if (p->ca_file != NULL)
        curl_easy_setopt(p->c, CURLOPT_CAINFO, p->ca_file);
    code = curl_easy_perform(p->c);
    curl_easy_getinfo(p->c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(p->c, CURLOPT_ERRORBUFFER, NULL);
    words.text[words.size] = '\0';
    if (repeats_token(&words, headers))
        snprintf(words.text, sizeof words.text, "(it repeats our token)");
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return kl_fail(err, KL_EAGAIN, "%s: %s", p->url,
                       p->said[0] != '\0' ? p->said : curl_easy_strerror(code));
    if (status >= 200 && status < 300)
        return KL_OK;
    /* As OTLP says: of the refusals only these are worth another try. */
    return kl_fail(err, status == 429 || status == 502 || status == 503 || status == 504 ? KL_EAGAIN : KL_EIO,
                   "%s answered %ld: %s", p->url, status, words.text);
}
