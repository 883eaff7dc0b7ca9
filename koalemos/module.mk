USES := libkoal/base libkoal/env libkoal/crypt libkoal/http libkoal/auth libkoal/bus libkoal/store libkoal/app libtsproto overrides libblock doorman ingestor querier
