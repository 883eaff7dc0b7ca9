/* The lexer: bytes to tokens, one at a time, as Prometheus' grammar wants them. What a byte means
 * depends on where it stands: plainly, inside braces, or after `[` before the first number. */
#include <stdio.h>
#include <string.h>

#include "libpromql/ast_priv.h"

enum { AT_PLAIN, AT_BRACES, AT_DURATION, AT_END };

static const struct { const char *text; uint8_t tok; } words[] = {
    { "and", T_AND }, { "or", T_OR }, { "unless", T_UNLESS }, { "atan2", T_ATAN2 },
    { "sum", T_SUM }, { "avg", T_AVG }, { "count", T_COUNT }, { "min", T_MIN }, { "max", T_MAX },
    { "group", T_GROUP }, { "stddev", T_STDDEV }, { "stdvar", T_STDVAR }, { "topk", T_TOPK },
    { "bottomk", T_BOTTOMK }, { "count_values", T_COUNT_VALUES }, { "quantile", T_QUANTILE },
    { "limitk", T_LIMITK }, { "limit_ratio", T_LIMIT_RATIO },
    { "offset", T_OFFSET }, { "smoothed", T_SMOOTHED }, { "anchored", T_ANCHORED }, { "by", T_BY },
    { "without", T_WITHOUT }, { "on", T_ON }, { "ignoring", T_IGNORING },
    { "group_left", T_GROUP_LEFT }, { "group_right", T_GROUP_RIGHT }, { "fill", T_FILL },
    { "fill_left", T_FILL_LEFT }, { "fill_right", T_FILL_RIGHT }, { "bool", T_BOOL },
    { "start", T_START }, { "end", T_END }, { "step", T_STEP }, { "range", T_RANGE },
    { "max_of", T_MAX_OF }, { "min_of", T_MIN_OF }, { "inf", T_NUMBER }, { "nan", T_NUMBER },
};
static const struct { const char *text; uint8_t tok; } signs[] = {
    { "(", T_LPAREN }, { ")", T_RPAREN }, { "{", T_LBRACE }, { "}", T_RBRACE }, { "[", T_LBRACKET },
    { "]", T_RBRACKET }, { ",", T_COMMA }, { "=", T_EQL }, { ":", T_COLON }, { "-", T_SUB },
    { "+", T_ADD }, { "*", T_MUL }, { "%", T_MOD }, { "/", T_DIV }, { "==", T_EQLC },
    { "!=", T_NEQ }, { "<=", T_LTE }, { "<", T_LSS }, { ">=", T_GTE }, { ">", T_GTR },
    { "</", T_TRIM_UPPER }, { ">/", T_TRIM_LOWER }, { "=~", T_RE }, { "!~", T_NRE }, { "^", T_POW },
    { "@", T_AT },
};

const char *pql_tok_text(uint8_t tok)
{
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (signs[i].tok == tok)
            return signs[i].text;
    if (tok == T_NUMBER)
        return NULL;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].tok == tok)
            return words[i].text;
    return NULL;
}

void pql_lex_init(struct pql_lexer *l, struct kl_span text)
{
    *l = (struct pql_lexer){ .text = text.at, .size = (int32_t)text.size };
}

static bool is_space(int32_t r) { return r == ' ' || r == '\t' || r == '\n' || r == '\r'; }
static bool is_digit(int32_t r) { return r >= '0' && r <= '9'; }
static bool is_alpha(int32_t r)
{
    return r == '_' || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z');
}
static bool is_alnum(int32_t r) { return is_alpha(r) || is_digit(r); }

static int32_t peek(const struct pql_lexer *l)
{
    int width;

    return pql_rune(l->text + l->pos, l->text + l->size, &width);
}

static int32_t next(struct pql_lexer *l)
{
    int     width;
    int32_t r = pql_rune(l->text + l->pos, l->text + l->size, &width);

    l->pos += width;
    return r;
}

static struct pql_item emit(struct pql_lexer *l, uint8_t tok)
{
    struct pql_item it = { .tok = tok, .at = l->start, .end = l->pos };

    l->start = l->pos;
    return it;
}

static struct pql_item stop(struct pql_lexer *l)
{
    l->state = AT_END;
    return (struct pql_item){ .tok = T_ERROR, .at = l->start, .end = l->size };
}

static struct pql_item bad(struct pql_lexer *l, const char *what)
{
    snprintf(l->error, sizeof l->error, "%s", what);
    return stop(l);
}

/* "<what>'x'", the rune quoted as Go does. */
static struct pql_item bad_rune(struct pql_lexer *l, const char *what, int32_t r, const char *after)
{
    struct kl_buf b;

    kl_buf_init(&b, 64);
    pql_quote_rune(&b, r);
    snprintf(l->error, sizeof l->error, "%s%.*s%s", what, (int)b.size, b.at, after);
    kl_buf_deinit(&b);
    return stop(l);
}

static struct pql_item bad_text(struct pql_lexer *l, const char *what)
{
    struct kl_buf b;
    int32_t       n = l->pos - l->start;

    kl_buf_init(&b, 1024);
    pql_quote(&b, kl_span(l->text + l->start, (size_t)(n > 160 ? 160 : n)));
    snprintf(l->error, sizeof l->error, "%s%.*s", what, (int)b.size, b.at);
    kl_buf_deinit(&b);
    return stop(l);
}

static bool accept(struct pql_lexer *l, const char *set)
{
    int32_t r = peek(l);

    if (r <= 0 || r > 127 || strchr(set, r) == NULL)
        return false;
    l->pos++;
    return true;
}

static bool is_in(const struct pql_lexer *l, const char *a, const char *b)
{
    int32_t r = peek(l);

    return r > 0 && r < 128 && (strchr(a, r) != NULL || strchr(b, r) != NULL);
}

static void accept_run(struct pql_lexer *l, const char *set)
{
    while (accept(l, set))
        ;
}

/* The forms 12, 1_000, .5, 1.5e-3, 0x1F; what is wrong with them is found when they are read. */
static bool scan_number(struct pql_lexer *l)
{
    const char *digits = "0123456789";
    int32_t     begin = l->pos;
    bool        dot = false, exponent = false;

    if (accept(l, "0") && accept(l, "xX")) {
        accept(l, "_");
        digits = "0123456789abcdefABCDEF";
    }
    accept(l, ".");
    accept(l, digits);
    while (is_in(l, digits, "._eE")) {
        if ((dot && accept(l, ".")) || (exponent && accept(l, "eE")))
            return false;
        if (accept(l, ".")) {
            dot = true;
            if (accept(l, "_.") || digits[10] != '\0')
                return false;
        } else if (accept(l, "eE")) {
            exponent = true;
            accept(l, "+-");
            if (accept(l, "._eE") || peek(l) < 0)
                return false;
        } else if (accept(l, "_")) {
            if (accept(l, "._eE") || peek(l) < 0)
                return false;
        } else {
            accept_run(l, digits);
        }
    }
    return l->pos != begin && !is_alnum(peek(l));
}

static bool scan_rest_of_duration(struct pql_lexer *l)
{
    int32_t r;

    if (!accept(l, "smhdwy"))
        return false;
    accept(l, "s");
    while (accept(l, "0123456789")) {
        accept_run(l, "0123456789");
        if (!accept(l, "smhdw"))
            return false;
        accept(l, "s");
    }
    r = peek(l);
    if (is_alnum(r)) {
        next(l);
        return false;
    }
    return true;
}

static struct pql_item lex_number(struct pql_lexer *l)
{
    if (scan_number(l))
        return emit(l, T_NUMBER);
    if (scan_rest_of_duration(l))
        return emit(l, T_DURATION);
    return bad_text(l, "bad number or duration syntax: ");
}

static int digit_value(int32_t c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* After a backslash in a quoted string. NULL, or what is wrong (in l->error). */
static bool scan_escape(struct pql_lexer *l, int32_t quote)
{
    int      digits;
    uint32_t base = 16, most = 0x10FFFF, x = 0;
    int32_t  c = next(l);

    if (c == quote || (c > 0 && c < 128 && strchr("abfnrtv\\", c) != NULL))
        return true;
    if (c >= '0' && c <= '7') {
        digits = 3, base = 8, most = 255;
    } else if (c == 'x' || c == 'u' || c == 'U') {
        digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        most = c == 'x' ? 255 : most;
        c = next(l);
    } else {
        if (c < 0)
            bad(l, "escape sequence not terminated");
        else
            snprintf(l->error, sizeof l->error, c < 0x20 || c == 0x7f
                     ? "unknown escape sequence U+%04X" : "unknown escape sequence U+%04X '%c'",
                     (unsigned)c, c < 128 ? (int)c : '?');
        return false;
    }
    for (;;) {
        int d = digit_value(c);
        if (d >= (int)base) {
            if (c < 0)
                bad(l, "escape sequence not terminated");
            else
                snprintf(l->error, sizeof l->error, "illegal character U+%04X '%c' in escape sequence",
                         (unsigned)c, c < 128 && c >= 0x20 ? (int)c : '?');
            return false;
        }
        x = x * base + (uint32_t)d;
        if (--digits == 0)
            break;
        c = next(l);
    }
    if (x > most || (x >= 0xD800 && x < 0xE000)) {
        snprintf(l->error, sizeof l->error, "escape sequence is an invalid Unicode code point");
        return false;
    }
    return true;
}

static struct pql_item lex_string(struct pql_lexer *l, int32_t quote)
{
    for (;;) {
        int     width;
        int32_t r = pql_rune(l->text + l->pos, l->text + l->size, &width);

        l->pos += width;
        if (r == 0xFFFD)
            return bad(l, "invalid UTF-8 rune");
        if (r < 0)
            return bad(l, quote == '`' ? "unterminated raw string" : "unterminated quoted string");
        if (r == quote)
            return emit(l, T_STRING);
        if (quote != '`') {
            if (r == '\n')
                return bad(l, "unterminated quoted string");
            if (r == '\\' && !scan_escape(l, quote))
                return stop(l);
        }
    }
}

static uint8_t word_token(const char *at, int32_t size)
{
    char low[16];

    if (size >= (int32_t)sizeof low)
        return T_IDENT;
    for (int32_t i = 0; i < size; i++)
        low[i] = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] + 32) : at[i];
    low[size] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].text, low) == 0)
            return words[i].tok;
    return T_IDENT;
}

static bool paren_follows(const struct pql_lexer *l)
{
    int32_t i = l->pos;

    while (i < l->size && is_space(l->text[i]))
        i++;
    return i < l->size && l->text[i] == '(';
}

static struct pql_item lex_word(struct pql_lexer *l)
{
    bool    colon = false;
    uint8_t tok;

    for (int32_t r; r = peek(l), is_alnum(r) || r == ':'; l->pos++)
        colon |= r == ':';
    tok = word_token(l->text + l->start, l->pos - l->start);
    if ((tok == T_FILL || tok == T_FILL_LEFT || tok == T_FILL_RIGHT) && !paren_follows(l))
        tok = T_IDENT;
    return emit(l, tok == T_IDENT && colon ? T_METRIC : tok);
}

/* step, range, max_of, min_of inside brackets. */
static bool scan_duration_word(struct pql_lexer *l, uint8_t *tok)
{
    while (is_alpha(peek(l)))
        l->pos++;
    *tok = word_token(l->text + l->start, l->pos - l->start);
    return *tok == T_STEP || *tok == T_RANGE || *tok == T_MAX_OF || *tok == T_MIN_OF;
}

static bool begins_duration_word(int32_t r)
{
    return r == 's' || r == 'S' || r == 'r' || r == 'R' || r == 'm' || r == 'M';
}

static struct pql_item lex_paren(struct pql_lexer *l, int32_t r)
{
    if (r == '(') {
        l->paren_depth++;
        return emit(l, T_LPAREN);
    }
    if (--l->paren_depth < 0) {
        l->start = l->pos;                             /* its place is said to be after it */
        return bad_rune(l, "unexpected right parenthesis ", r, "");
    }
    return emit(l, T_RPAREN);
}

static struct pql_item lex_sign(struct pql_lexer *l, int32_t r)
{
    int32_t p = peek(l);

    switch (r) {
    case ',': return emit(l, T_COMMA);
    case '*': return emit(l, T_MUL);
    case '/': return emit(l, T_DIV);
    case '%': return emit(l, T_MOD);
    case '+': return emit(l, T_ADD);
    case '-': return emit(l, T_SUB);
    case '^': return emit(l, T_POW);
    case '@': return emit(l, T_AT);
    case '=':
        if (p == '~')
            return bad_rune(l, "unexpected character after '=': ", p, "");
        return accept(l, "=") ? emit(l, T_EQLC) : emit(l, T_EQL);
    case '!':
        return accept(l, "=") ? emit(l, T_NEQ)
                              : bad_rune(l, "unexpected character after '!': ", p, "");
    case '<':
        return accept(l, "=") ? emit(l, T_LTE)
             : accept(l, "/") ? emit(l, T_TRIM_UPPER) : emit(l, T_LSS);
    case '>':
        return accept(l, "=") ? emit(l, T_GTE)
             : accept(l, "/") ? emit(l, T_TRIM_LOWER) : emit(l, T_GTR);
    default:
        return bad_rune(l, "unexpected character: ", r, "");
    }
}

static struct pql_item lex_plain(struct pql_lexer *l)
{
    int32_t r = next(l);
    uint8_t tok;

    if (r < 0) {
        if (l->paren_depth != 0)
            return bad(l, "unclosed left parenthesis");
        if (l->bracket_open)
            return bad(l, "unclosed left bracket");
        l->state = AT_END;
        return emit(l, T_EOF);
    }
    if (is_digit(r) || (r == '.' && is_digit(peek(l)))) {
        l->pos = l->start;
        return lex_number(l);
    }
    if (r == '"' || r == '\'' || r == '`')
        return lex_string(l, r);
    if (is_alpha(r) || r == ':') {
        if (!l->bracket_open) {
            l->pos = l->start;
            return lex_word(l);
        }
        if (r == ':') {
            if (l->got_colon)
                return bad_rune(l, "unexpected colon ", r, "");
            l->got_colon = true;
            return emit(l, T_COLON);
        }
        if (begins_duration_word(r) && scan_duration_word(l, &tok))
            return emit(l, tok);
        return bad_rune(l, "unexpected character: ", r, ", expected ':'");
    }
    switch (r) {
    case '(': case ')':
        return lex_paren(l, r);
    case '{':
        l->brace_open = true;
        l->state = AT_BRACES;
        return emit(l, T_LBRACE);
    case '[':
        if (l->bracket_open)
            return bad_rune(l, "unexpected left bracket ", r, "");
        l->got_colon = false;
        l->bracket_open = true;
        l->state = AT_DURATION;
        return emit(l, T_LBRACKET);
    case ']':
        if (!l->bracket_open)
            return bad_rune(l, "unexpected right bracket ", r, "");
        l->bracket_open = false;
        return emit(l, T_RBRACKET);
    default:
        return lex_sign(l, r);
    }
}

static struct pql_item lex_braces(struct pql_lexer *l)
{
    int32_t r = next(l), p;

    if (r < 0)
        return bad(l, "unexpected end of input inside braces");
    if (is_alpha(r)) {
        while (is_alnum(peek(l)))
            l->pos++;
        return emit(l, T_IDENT);
    }
    switch (r) {
    case ',':
        return emit(l, T_COMMA);
    case '"': case '\'': case '`':
        return lex_string(l, r);
    case '=':
        return accept(l, "~") ? emit(l, T_RE) : emit(l, T_EQL);
    case '!':
        p = peek(l);
        return accept(l, "~") ? emit(l, T_NRE) : accept(l, "=") ? emit(l, T_NEQ)
             : bad_rune(l, "unexpected character after '!' inside braces: ", p, "");
    case '{':
        return bad_rune(l, "unexpected left brace ", r, "");
    case '}':
        l->brace_open = false;
        l->state = AT_PLAIN;
        return emit(l, T_RBRACE);
    default:
        return bad_rune(l, "unexpected character inside braces: ", r, "");
    }
}

static struct pql_item lex_duration(struct pql_lexer *l)
{
    int32_t r = next(l);
    uint8_t tok;

    if (r < 0)
        return bad(l, "unexpected end of input in duration expression");
    if (is_digit(r) || (r == '.' && is_digit(peek(l)))) {
        l->pos = l->start;
        l->got_duration = true;
        l->state = AT_PLAIN;
        return lex_number(l);
    }
    if (begins_duration_word(r))
        return scan_duration_word(l, &tok)
             ? emit(l, tok) : bad_rune(l, "unexpected character in duration expression: ", r, "");
    switch (r) {
    case ']':
        l->bracket_open = l->got_colon = false;
        l->state = AT_PLAIN;
        return emit(l, T_RBRACKET);
    case ':':
        if (!l->got_duration)
            return bad(l, "unexpected colon before duration in duration expression");
        if (l->got_colon)
            return bad(l, "unexpected repeated colon in duration expression");
        l->got_colon = true;
        return emit(l, T_COLON);
    case '(': case ')':
        return lex_paren(l, r);
    case '+': case '-': case '*': case '/': case '%': case '^': case ',':
        return lex_sign(l, r);
    default:
        return bad_rune(l, "unexpected character in duration expression: ", r, "");
    }
}

struct pql_item pql_lex_next(struct pql_lexer *l)
{
    if (l->state == AT_END)
        return (struct pql_item){ .tok = l->error[0] != '\0' ? T_ERROR : T_EOF,
                                  .at = l->start, .end = l->size };
    for (;;) {
        while (l->pos < l->size && is_space(l->text[l->pos]))
            l->pos++;
        if (l->state == AT_DURATION || l->pos >= l->size || l->text[l->pos] != '#')
            break;
        while (l->pos < l->size && l->text[l->pos] != '\n' && l->text[l->pos] != '\r')
            l->pos++;
    }
    l->start = l->pos;
    return l->state == AT_BRACES ? lex_braces(l)
         : l->state == AT_DURATION ? lex_duration(l) : lex_plain(l);
}
