#ifndef PQL_AST_PRIV_H
#define PQL_AST_PRIV_H
/*
 * The language as a tree: tokens, nodes, the parser that makes them and the printers that read them.
 *
 * A tree lives in the arena of its pql_parse and dies with it; strings are spans into the text or
 * into that arena. Depth is bounded by PQL_DEPTH_MAX when a node is made, so whoever walks a tree
 * may recurse. Positions are byte offsets into the text, as Prometheus counts them.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "libpromql/pql.h"

enum pql_tok {
    T_EOF, T_ERROR, T_IDENT, T_METRIC, T_NUMBER, T_DURATION, T_STRING,
    T_LPAREN, T_RPAREN, T_LBRACE, T_RBRACE, T_LBRACKET, T_RBRACKET, T_COMMA, T_COLON, T_EQL,
    T_OPS,                                             /* operators from here */
    T_ADD = T_OPS, T_SUB, T_MUL, T_DIV, T_MOD, T_POW, T_ATAN2,
    T_EQLC, T_NEQ, T_LTE, T_LSS, T_GTE, T_GTR, T_TRIM_UPPER, T_TRIM_LOWER,
    T_AND, T_OR, T_UNLESS, T_RE, T_NRE, T_AT, T_OPS_END,
    T_AGGS = T_OPS_END,                                /* aggregations from here */
    T_SUM = T_AGGS, T_AVG, T_COUNT, T_MIN, T_MAX, T_GROUP, T_STDDEV, T_STDVAR, T_TOPK, T_BOTTOMK,
    T_COUNT_VALUES, T_QUANTILE, T_LIMITK, T_LIMIT_RATIO, T_AGGS_END,
    T_WORDS = T_AGGS_END,                              /* keywords from here */
    T_OFFSET = T_WORDS, T_SMOOTHED, T_ANCHORED, T_BY, T_WITHOUT, T_ON, T_IGNORING, T_GROUP_LEFT,
    T_GROUP_RIGHT, T_FILL, T_FILL_LEFT, T_FILL_RIGHT, T_BOOL, T_WORDS_END,
    T_START = T_WORDS_END, T_END, T_STEP, T_RANGE, T_MAX_OF, T_MIN_OF, T_COUNT_OF_TOKENS
};

struct pql_item { uint8_t tok; int32_t at, end; };     /* [at, end) of the text */

/* A lexer over a text that outlives it. After T_ERROR, `error` says why and it stays there. */
struct pql_lexer {
    const char *text;
    int32_t size, pos, start, paren_depth;
    uint8_t state;
    bool brace_open, bracket_open, got_colon, got_duration;
    char error[256];
};
void        pql_lex_init(struct pql_lexer *l, struct kl_span text);
struct pql_item pql_lex_next(struct pql_lexer *l);
const char *pql_tok_text(uint8_t tok);                 /* "+", "sum", "by", ...; NULL when it has none */
static inline bool pql_is_agg(uint8_t t) { return t >= T_AGGS && t < T_AGGS_END; }
static inline bool pql_is_op(uint8_t t) { return t >= T_OPS && t < T_OPS_END; }
static inline bool pql_is_cmp(uint8_t t) { return t >= T_EQLC && t <= T_GTR; }
static inline bool pql_is_set(uint8_t t) { return t == T_AND || t == T_OR || t == T_UNLESS; }
static inline bool pql_agg_has_param(uint8_t t)
{
    return t == T_TOPK || t == T_BOTTOMK || t == T_COUNT_VALUES || t == T_QUANTILE || t == T_LIMITK
           || t == T_LIMIT_RATIO;
}

enum pql_vtype { V_NONE, V_SCALAR, V_STRING, V_VECTOR, V_MATRIX };

enum pql_kind {
    N_NUMBER, N_STRING, N_VECTOR, N_MATRIX, N_SUBQUERY, N_CALL, N_AGG, N_BINARY, N_UNARY, N_PAREN,
    N_DURATION, N_INVARIANT
};

/* When a selector or a subquery looks: its offset and its @. Durations in nanoseconds, as Go's. */
struct pql_when {
    int64_t offset_ns;
    struct pql_node *offset_expr;                      /* N_DURATION or NULL */
    bool has_at;
    int64_t at_ms;
    uint8_t at_edge;                                   /* 0, T_START or T_END */
};

enum pql_card { CARD_ONE_TO_ONE, CARD_MANY_TO_ONE, CARD_ONE_TO_MANY, CARD_MANY_TO_MANY };
struct pql_matching {
    uint8_t card;
    bool on, fill_left, fill_right;
    double fill_left_value, fill_right_value;
    uint32_t label_count, include_count;
    struct kl_span *labels, *include;
};

struct pql_selector_node {
    struct kl_span name;                               /* "" when given as a matcher only */
    uint32_t count;
    struct kl_matcher *matchers;
    struct pql_when when;
    bool anchored, smoothed, may_be_empty, stats_only;
};

struct pql_func;
struct pql_node {
    uint8_t kind, op;                                  /* enum pql_kind; a token */
    bool bool_modifier, without, duration, wrapped;
    int32_t from, to;                                  /* its position */
    uint32_t depth;
    struct pql_node *a, *b;                            /* lhs, rhs; or expression, parameter */
    double value;                                      /* N_NUMBER */
    struct kl_span text;                               /* N_STRING: the value */
    struct pql_selector_node *sel;                     /* N_VECTOR; N_MATRIX has the vector in a */
    struct pql_matching *matching;                     /* N_BINARY between vectors, else NULL */
    const struct pql_func *func;                       /* N_CALL */
    uint32_t count;                                    /* arguments, or grouping labels */
    struct pql_node **args;
    struct kl_span *grouping;
    int64_t range_ns, step_ns;                         /* N_MATRIX, N_SUBQUERY */
    struct pql_node *range_expr, *step_expr;
    struct pql_when when;                              /* N_SUBQUERY */
};

enum pql_fn {
    FN_ABS, FN_ABSENT, FN_ABSENT_OVER_TIME, FN_ACOS, FN_ACOSH, FN_ASIN, FN_ASINH, FN_ATAN,
    FN_ATANH, FN_AVG_OVER_TIME, FN_CEIL, FN_CHANGES, FN_CLAMP, FN_CLAMP_MAX, FN_CLAMP_MIN, FN_COS,
    FN_COSH, FN_COUNT_OVER_TIME, FN_DAY_OF_MONTH, FN_DAY_OF_WEEK, FN_DAY_OF_YEAR,
    FN_DAYS_IN_MONTH, FN_DEG, FN_DELTA, FN_DERIV, FN_DOUBLE_EXPONENTIAL_SMOOTHING, FN_END, FN_EXP,
    FN_FIRST_OVER_TIME, FN_FLOOR, FN_HISTOGRAM_AVG, FN_HISTOGRAM_COUNT, FN_HISTOGRAM_FRACTION,
    FN_HISTOGRAM_QUANTILE, FN_HISTOGRAM_QUANTILES, FN_HISTOGRAM_STDDEV, FN_HISTOGRAM_STDVAR,
    FN_HISTOGRAM_SUM, FN_HOUR, FN_IDELTA, FN_INCREASE, FN_INFO, FN_IRATE, FN_LABEL_JOIN,
    FN_LABEL_REPLACE, FN_LAST_OVER_TIME, FN_LN, FN_LOG10, FN_LOG2, FN_MAD_OVER_TIME, FN_MAX_OF,
    FN_MAX_OVER_TIME, FN_MIN_OF, FN_MIN_OVER_TIME, FN_MINUTE, FN_MONTH, FN_PI, FN_PREDICT_LINEAR,
    FN_PRESENT_OVER_TIME, FN_QUANTILE_OVER_TIME, FN_RAD, FN_RANGE, FN_RATE, FN_RESETS, FN_ROUND,
    FN_SCALAR, FN_SGN, FN_SIN, FN_SINH, FN_SORT, FN_SORT_BY_LABEL, FN_SORT_BY_LABEL_DESC,
    FN_SORT_DESC, FN_SQRT, FN_START, FN_START_TIMESTAMP, FN_STDDEV_OVER_TIME, FN_STDVAR_OVER_TIME,
    FN_STEP, FN_SUM_OVER_TIME, FN_TAN, FN_TANH, FN_TIME, FN_TIMESTAMP, FN_TS_OF_FIRST_OVER_TIME,
    FN_TS_OF_LAST_OVER_TIME, FN_TS_OF_MAX_OVER_TIME, FN_TS_OF_MIN_OVER_TIME, FN_VECTOR, FN_YEAR
};
enum { PQL_ARGS_MAX = 5 };
struct pql_func {
    const char *name;
    uint8_t type, arg_count, args[PQL_ARGS_MAX];       /* enum pql_vtype */
    int8_t variadic;                                   /* -1: any number more */
    uint16_t id;                                       /* enum pql_fn */
    bool moves;                                        /* its value depends on the step even under @ */
};
const struct pql_func *pql_func_find(struct kl_span name);

/* One parse: the text, the arena of the tree, the first failure. */
enum { PQL_PARSE_MEMORY_MAX = 256 << 20, PQL_MATCHERS_MAX = 256, PQL_REGEXES_MAX = 1000,
       PQL_REGEX_BYTES_MAX = 16 << 20 };               /* of all together: kl_regex_bytes */
struct pql_parse {
    struct kl_arena arena;
    struct kl_span text;                               /* a copy in the arena */
    struct pql_lexer lex;
    struct pql_item tok;                               /* the one token of look-ahead */
    int32_t last_end;                                  /* where the last taken token ended */
    const char *context, *expected;                    /* of the innermost place errors belong to */
    uint32_t nesting;
    bool failed;
    char error[1024];
    struct kl_regex **regexes;
    uint32_t regex_count, regex_room;
    size_t regex_bytes;
};
void pql_parse_init(struct pql_parse *p, struct kl_span text);
void pql_parse_deinit(struct pql_parse *p);
/* NULL after an error, which is in p->error ("1:5: parse error: ..."). Types are checked. */
struct pql_node *pql_parse_expr(struct pql_parse *p);
struct pql_node *pql_parse_selector(struct pql_parse *p);

/* ---- inside the parser ---- */
void  pql_error(struct pql_parse *p, int32_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void  pql_unexpected(struct pql_parse *p, const char *context, const char *expected);
void *pql_parse_alloc(struct pql_parse *p, size_t size);      /* zeroed; NULL after an error */
struct pql_node *pql_node_new(struct pql_parse *p, uint8_t kind, int32_t from, int32_t to,
                              struct pql_node *a, struct pql_node *b);
void  pql_take(struct pql_parse *p);                   /* on to the next token */
bool  pql_take_rparen(struct pql_parse *p);            /* false: something else is there, and is named */
struct kl_span pql_item_text(const struct pql_parse *p, struct pql_item it);
struct pql_node *pql_parse_any(struct pql_parse *p);   /* an expression, until it cannot go on */
struct pql_node *pql_parse_primary(struct pql_parse *p);      /* without what may follow it */
struct pql_node *pql_parse_postfix(struct pql_parse *p);      /* with its modifiers */
struct pql_node *pql_parse_vector(struct pql_parse *p);       /* name{...} or {...} */
struct pql_node *pql_parse_duration(struct pql_parse *p);     /* a duration expression */
struct pql_node *pql_parse_offset(struct pql_parse *p);       /* what follows `offset` */
struct pql_node *pql_parse_literal(struct pql_parse *p);      /* NUMBER or DURATION */
bool  pql_parse_labels(struct pql_parse *p, struct kl_span **labels, uint32_t *count);
bool  pql_name_token(uint8_t tok);                     /* may be a metric's name */
uint8_t pql_check(struct pql_parse *p, struct pql_node *n);   /* types; enum pql_vtype */
uint8_t pql_type(const struct pql_node *n);
const char *pql_type_name(uint8_t type);               /* "instant vector", ... */

/* ---- texts and numbers as Go writes them ---- */
bool pql_unquote(struct kl_span quoted, struct kl_arena *arena, struct kl_span *out);
void pql_quote(struct kl_buf *out, struct kl_span s);  /* strconv.Quote */
void pql_quote_rune(struct kl_buf *out, int32_t rune); /* %q of a rune */
void pql_fmt_g(struct kl_buf *out, double v);          /* %g and %v: the shortest digits */
void pql_fmt_json(struct kl_buf *out, double v);       /* as in a sample of the API */
void pql_fmt_ms(struct kl_buf *out, int64_t ms);       /* a duration: "1h30m" */
int32_t pql_rune(const char *at, const char *end, int *width); /* -1 at the end, 0xFFFD if broken */
int  pql_put_rune(char *out, uint32_t rune);           /* bytes written, at most 4 */
/* "1h30m" -> ms; NULL, or why not. */
const char *pql_duration_ms(struct kl_span text, int64_t *ms);
/* What Go's ParseInt(s, 0, 64), else ParseFloat takes. NULL, or why not. */
const char *pql_number(struct kl_span text, double *value);
bool pql_legacy_name(struct kl_span name);             /* [a-zA-Z_][a-zA-Z0-9_]* */
/* "line:column" of a position. */
void pql_position(struct kl_span text, int32_t at, struct kl_buf *out);

void pql_print(struct kl_buf *out, const struct pql_node *n);
void pql_print_matching(struct kl_buf *out, const struct pql_node *n);
void pql_print_grouping(struct kl_buf *out, const struct pql_node *n);
void pql_print_sub_suffix(struct kl_buf *out, const struct pql_node *n);
void pql_pretty(struct kl_buf *out, const struct pql_node *n, unsigned level);
void pql_print_json(struct kl_buf *out, const struct pql_node *n);
#endif
