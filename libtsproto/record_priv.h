#ifndef TSP_RECORD_PRIV_H
#define TSP_RECORD_PRIV_H
/* Sizes of a record's parts, between its writer and its reader; record.h draws them. */
enum { TSP_RECORD_VERSION = 1, TSP_RECORD_PACKED = 1, TSP_RECORD_HEAD = 36, TSP_SECTION_HEAD = 5 };
#endif
