USES := libkoal/base
LIBS := -lmicrohttpd -lz -lzstd
