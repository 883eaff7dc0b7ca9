/*
 * What an S3 service says in XML: errors, a new upload's id, pages of a list. Not a parser of XML:
 * it looks for elements by name, in bounded text, and takes what lies between their tags. A hostile
 * service gets a refusal or wrong keys out of it, never memory that is not its own.
 */
#include "libkoal/store/store_s3_priv.h"

#include <stdlib.h>

/* The inside of the first <name>...</name> (or <name attributes>) from `at` on; `after` behind it. */
static bool element(const char *at, const char *end, const char *name, struct kl_span *inside,
                    const char **after)
{
    size_t n = strlen(name);

    while (at < end) {
        const char *open = memmem(at, (size_t)(end - at), "<", 1), *begin, *close;

        if (open == NULL || (size_t)(end - open) < n + 2)
            return false;
        at = open + 1;
        if (memcmp(at, name, n) != 0 || (at[n] != '>' && at[n] != ' ' && at[n] != '/'))
            continue;
        begin = memchr(at + n, '>', (size_t)(end - at) - n);
        if (begin == NULL)
            return false;
        if (begin[-1] == '/') {                        /* <Name/> */
            *inside = kl_span(begin, 0);
            *after = begin + 1;
            return true;
        }
        begin++;
        for (close = begin; ; close++) {
            close = memmem(close, (size_t)(end - close), "</", 2);
            if (close == NULL || (size_t)(end - close) < n + 3)
                return false;
            if (memcmp(close + 2, name, n) == 0 && close[n + 2] == '>')
                break;
        }
        *inside = kl_span(begin, (size_t)(close - begin));
        *after = close + n + 3;
        return true;
    }
    return false;
}

/* One character for an entity; how many bytes of the text it took. 0: it is none. */
static size_t entity(const char *at, size_t left, char *c)
{
    static const struct { const char *text; char c; } known[] = {
        { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' },
        { "&#34;", '"' }, { "&#39;", '\'' }, { "&#x22;", '"' }, { "&#x27;", '\'' },
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t n = strlen(known[i].text);
        if (left >= n && memcmp(at, known[i].text, n) == 0) {
            *c = known[i].c;
            return n;
        }
    }
    return 0;
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
         : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool text_of(struct kl_span inside, bool url, char *text, size_t size)
{
    const char *at = inside.at;
    size_t      n = 0;

    for (size_t i = 0; i < inside.size; n++) {
        size_t took = at[i] == '&' ? entity(at + i, inside.size - i, &text[n < size ? n : 0]) : 0;

        if (n + 1 >= size)
            return false;
        if (took == 0) {
            text[n] = at[i];
            took = 1;
            if (url && at[i] == '+') {
                text[n] = ' ';
            } else if (url && at[i] == '%' && i + 2 < inside.size && nibble(at[i + 1]) >= 0 &&
                       nibble(at[i + 2]) >= 0) {
                text[n] = (char)(nibble(at[i + 1]) << 4 | nibble(at[i + 2]));
                took = 3;
            }
        }
        if (text[n] == '\0')
            return false;
        i += took;
    }
    text[n] = '\0';
    return true;
}

static bool find_text(struct kl_span xml, const char *name, bool url, char *text, size_t size)
{
    struct kl_span inside;
    const char    *after, *at = xml.at;

    return size > 0 && xml.size > 0 && element(at, at + xml.size, name, &inside, &after) &&
           text_of(inside, url, text, size);
}

bool kl_s3_xml_text(struct kl_span xml, const char *name, char *text, size_t size)
{
    return find_text(xml, name, false, text, size);
}

static bool number(const char *text, uint64_t *v)
{
    *v = 0;
    for (const char *c = text; *c != '\0'; c++)
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(*v, 10u, v) ||
            __builtin_add_overflow(*v, (uint64_t)(*c - '0'), v))
            return false;
    return text[0] != '\0';
}

enum kl_code kl_s3_xml_list(struct kl_span xml,
                            void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                            struct kl_s3_page *page, struct kl_err *err)
{
    const char    *at = xml.at, *end = at + xml.size, *rest;
    struct kl_span whole, one;
    char           word[24], key[3 * 1024 + 1];
    uint64_t       size;
    bool           url;

    if (xml.size == 0 || !element(at, end, "ListBucketResult", &whole, &rest))
        return kl_fail(err, KL_EIO, "the answer is no list of objects");
    *page = (struct kl_s3_page){ 0 };
    url = find_text(whole, "EncodingType", false, word, sizeof word) && strcmp(word, "url") == 0;
    if (!find_text(whole, "IsTruncated", false, word, sizeof word))
        return kl_fail(err, KL_EIO, "the list does not say whether it is whole");
    page->more = strcmp(word, "true") == 0;
    at = whole.at;
    for (end = at + whole.size; element(at, end, "Contents", &one, &at); ) {
        if (!find_text(one, "Size", false, word, sizeof word) || !number(word, &size))
            return kl_fail(err, KL_EIO, "the list has an object without a size");
        if (find_text(one, "Key", url, key, sizeof key))       /* a longer one is not ours */
            each(ctx, key, size);
    }
    if (page->more && (!find_text(whole, "NextContinuationToken", false, page->token,
                                  sizeof page->token) || page->token[0] == '\0'))
        return kl_fail(err, KL_EIO, "the list goes on, but does not say where");
    return KL_OK;
}

/* "2026-01-31T12:00:00.000Z" */
static bool stamp(const char *text, int64_t *ms)
{
    struct tm   tm = { 0 };
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (rest == NULL || (*rest != '.' && *rest != 'Z'))
        return false;
    *ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

enum kl_code kl_s3_xml_uploads(struct kl_span xml,
                               void (*each)(void *ctx, const char *key, const char *id, int64_t begun_ms),
                               void *ctx, struct kl_err *err)
{
    const char    *at = xml.at, *end = at + xml.size, *rest;
    struct kl_span whole, one;
    char           word[40], key[3 * 1024 + 1], id[1024];
    int64_t        begun_ms;
    bool           url;

    if (xml.size == 0 || !element(at, end, "ListMultipartUploadsResult", &whole, &rest))
        return kl_fail(err, KL_EIO, "the answer is no list of uploads");
    url = find_text(whole, "EncodingType", false, word, sizeof word) && strcmp(word, "url") == 0;
    at = whole.at;
    /* One whose age is not told is left alone. */
    for (end = at + whole.size; element(at, end, "Upload", &one, &at); )
        if (find_text(one, "Key", url, key, sizeof key) && find_text(one, "UploadId", false, id, sizeof id) &&
            find_text(one, "Initiated", false, word, sizeof word) && stamp(word, &begun_ms))
            each(ctx, key, id, begun_ms);
    return KL_OK;
}
