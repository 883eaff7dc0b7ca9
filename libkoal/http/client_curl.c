#include "libkoal/http/client.h"

#include "libkoal/base/address.h"

#include <curl/curl.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CONNECT_MS = 10000, STALL_S = 300, TOKEN_MAX = 4096 };

struct kl_http_client {
    CURL *c;
    char *ca_file, *token_file, *tenant;
    char  token[TOKEN_MAX + 1];                        /* of the request under way; then wiped */
    struct kl_http_asked *asked;
    size_t words;
    bool   stopped;
};

static char *copy(const char *text)
{
    return text != NULL && text[0] != '\0' ? kl_strdup(text) : NULL;
}

struct kl_http_client *kl_http_client_new(const struct kl_http_client_options *o)
{
    struct kl_http_client *c = kl_new(sizeof *c);

    curl_global_init(CURL_GLOBAL_DEFAULT);             /* counted */
    c->ca_file = copy(o->ca_file);
    c->token_file = copy(o->token_file);
    c->tenant = copy(o->tenant);
    return c;
}

void kl_http_client_free(struct kl_http_client *c)
{
    if (c == NULL)
        return;
    curl_easy_cleanup(c->c);
    curl_global_cleanup();
    free(c->ca_file);
    free(c->token_file);
    free(c->tenant);
    free(c);
}

void kl_http_form_add(struct kl_buf *form, const char *name, struct kl_span value)
{
    const unsigned char *at = value.at;

    kl_buf_adds(form, form->size > 0 ? "&" : "");
    kl_buf_adds(form, name);
    kl_buf_add8(form, '=');
    for (size_t i = 0; i < value.size; i++)
        if (isalnum(at[i]) || at[i] == '-' || at[i] == '.' || at[i] == '_')
            kl_buf_add8(form, at[i]);
        else
            kl_buf_addf(form, "%%%02X", at[i]);
}

static size_t take(char *bytes, size_t one, size_t n, void *ctx)
{
    struct kl_http_client *c = ctx;
    struct kl_http_asked  *a = c->asked;
    long                   status = 0;

    (void)one;
    curl_easy_getinfo(c->c, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 == 2) {
        c->stopped = a->take != NULL && !a->take(a->ctx, kl_span(bytes, n));
        return c->stopped ? 0 : n;
    }
    for (size_t i = 0; i < n && c->words < KL_HTTP_CLIENT_WORDS_MAX; i++)
        a->words[c->words++] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : ' ';
    a->words[c->words] = '\0';
    return n;
}

static size_t header(char *bytes, size_t one, size_t n, void *ctx)
{
    struct kl_http_asked *a = ((struct kl_http_client *)ctx)->asked;
    size_t                name = a->header != NULL ? strlen(a->header) : 0;

    (void)one;
    if (name > 0 && n > name && bytes[name] == ':' && strncasecmp(bytes, a->header, name) == 0) {
        size_t from = name + 1, to = n;

        while (from < to && isspace((unsigned char)bytes[from]))
            from++;
        while (to > from && isspace((unsigned char)bytes[to - 1]))
            to--;
        if (to - from < sizeof a->kept) {
            memcpy(a->kept, bytes + from, to - from);
            a->kept[to - from] = '\0';
        }
    }
    return n;
}

/* Read anew each time: a token is replaced while we run. */
static enum kl_code read_token(struct kl_http_client *c, struct kl_err *err)
{
    FILE  *f;
    size_t size, line;
    int    next;

    if (c->token_file == NULL)
        return KL_OK;
    f = fopen(c->token_file, "re");
    if (f == NULL)
        return kl_fail(err, KL_EIO, "the token's file %s: %s", c->token_file, strerror(errno));
    size = fread(c->token, 1, TOKEN_MAX, f);
    c->token[size] = '\0';
    line = strcspn(c->token, "\r\n");
    next = line == TOKEN_MAX ? fgetc(f) : EOF;
    err->code = KL_OK;
    if (ferror(f))
        kl_fail(err, KL_EIO, "the token's file %s: %s", c->token_file, strerror(errno));
    else if (next != EOF && next != '\r' && next != '\n')
        kl_fail(err, KL_EIO, "the token's file %s: longer than a token can be", c->token_file);
    fclose(f);
    c->token[line] = '\0';
    if (err->code != KL_OK)
        explicit_bzero(c->token, sizeof c->token);
    return err->code;
}

static struct curl_slist *headers_of(const struct kl_http_client *c, const struct kl_http_asked *a)
{
    struct curl_slist *list = NULL;
    char               line[TOKEN_MAX + 32];

    if (c->token[0] != '\0') {
        snprintf(line, sizeof line, "Authorization: Bearer %s", c->token);
        list = curl_slist_append(list, line);
        explicit_bzero(line, sizeof line);
    }
    if (c->tenant != NULL) {
        snprintf(line, sizeof line, "X-Scope-OrgID: %s", c->tenant);
        list = curl_slist_append(list, line);
    }
    if (a->type != NULL) {
        snprintf(line, sizeof line, "Content-Type: %s", a->type);
        list = curl_slist_append(list, line);
    }
    return list;
}

/* What a token's secret begins behind: of ID.SECRET, a key of ours (libkoal/auth/keys.h), the id is in the words of a refusal. */
static size_t secret_at(const char *token)
{
    size_t id = strcspn(token, "."), hex = token[id] == '.' ? strspn(token + id + 1, "0123456789abcdef") : 0;

    return hex >= 32 && token[id + 1 + hex] == '\0' ? id + 1 : 0;
}

/* A server, or a proxy, may repeat what it was sent: then its words are not told. Eight bytes of a secret are looked
 * for, since its end may be cut off, or the id with its dot; where the address holds a secret, no words are told. */
static void hide_secrets(struct kl_http_client *c, struct kl_http_asked *a, const char *shown)
{
    char   begin[9], id[TOKEN_MAX + 1];
    size_t at = secret_at(c->token);

    snprintf(begin, sizeof begin, "%.8s", c->token + at);
    snprintf(id, sizeof id, "%.*s", (int)at, c->token);
    if (a->words[0] != '\0' && (strcmp(shown, a->url) != 0 || (begin[0] != '\0' && strstr(a->words, begin) != NULL) ||
                                (id[0] != '\0' && strstr(a->words, id) != NULL)))
        strcpy(a->words, "(its words may repeat our secret)");
    explicit_bzero(c->token, sizeof c->token);
}

static bool set_url(struct kl_http_client *c, const struct kl_http_asked *a, bool get)
{
    struct kl_buf url = { 0 };
    CURLcode      code;

    kl_buf_adds(&url, a->url);
    if (get && a->body.size > 0) {
        kl_buf_adds(&url, "?");
        kl_buf_add(&url, a->body.at, a->body.size);
    }
    kl_buf_add8(&url, 0);
    code = curl_easy_setopt(c->c, CURLOPT_URL, url.at);        /* copied */
    kl_buf_deinit(&url);
    return code == CURLE_OK;
}

enum kl_code kl_http_client_ask(struct kl_http_client *c, struct kl_http_asked *a, struct kl_err *err)
{
    const char        *method = a->method != NULL ? a->method : "POST";
    bool               get = strcmp(method, "GET") == 0;
    struct curl_slist *headers;
    char               said[CURL_ERROR_SIZE] = "";
    struct kl_buf      shown = { 0 };
    CURLcode           code;
    long               status = 0, number = 0;

    a->status = 0;
    a->refused = false;
    if (c->c == NULL && (c->c = curl_easy_init()) == NULL)
        return kl_fail(err, KL_EAGAIN, "no memory for a request");
    curl_easy_reset(c->c);                             /* its connection stays */
    if (read_token(c, err) != KL_OK)
        return err->code;
    if (!set_url(c, a, get))
        return kl_fail(err, KL_EAGAIN, "no memory for a request");
    headers = headers_of(c, a);
    c->asked = a;
    c->words = 0;
    c->stopped = false;
    a->kept[0] = a->words[0] = '\0';
    curl_easy_setopt(c->c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c->c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->c, CURLOPT_HTTPHEADER, headers);
    if (!get) {
        curl_easy_setopt(c->c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)a->body.size);
        curl_easy_setopt(c->c, CURLOPT_POSTFIELDS, a->body.size > 0 ? a->body.at : "");
        curl_easy_setopt(c->c, CURLOPT_CUSTOMREQUEST, method);
    }
    curl_easy_setopt(c->c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(c->c, CURLOPT_TIMEOUT_MS, (long)a->timeout_ms);
    curl_easy_setopt(c->c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c->c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(c->c, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(c->c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c->c, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->c, CURLOPT_HEADERFUNCTION, header);
    curl_easy_setopt(c->c, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->c, CURLOPT_ERRORBUFFER, said);
    if (c->ca_file != NULL)
        curl_easy_setopt(c->c, CURLOPT_CAINFO, c->ca_file);
    code = curl_easy_perform(c->c);
    curl_easy_setopt(c->c, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    curl_easy_getinfo(c->c, CURLINFO_RESPONSE_CODE, &status);
    a->status = (unsigned)status;
    curl_easy_getinfo(c->c, CURLINFO_OS_ERRNO, &number);
    a->refused = code == CURLE_COULDNT_CONNECT && number == ECONNREFUSED;
    kl_address_show(&shown, a->url);
    kl_buf_add8(&shown, 0);
    hide_secrets(c, a, shown.at);
    snprintf(a->shown, sizeof a->shown, "%s", shown.at);
    err->code = KL_OK;
    if (c->stopped)
        kl_fail(err, KL_ECANCELED, "the answer was wanted no further");
    else if (code != CURLE_OK)
        kl_fail(err, KL_EAGAIN, "%s: %s", shown.at, said[0] != '\0' ? said : curl_easy_strerror(code));
    kl_buf_deinit(&shown);
    return err->code;
}
