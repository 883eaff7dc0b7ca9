USES := libkoal/base
LIBS := -lmicrohttpd -lnghttp2 -lz -lzstd -lcurl
