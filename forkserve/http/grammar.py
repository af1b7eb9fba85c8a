r"""The grammar of HTTP/1.1 that we use: each expression under the ABNF that it stands for.

The head of a message is matched as text (its octets decoded as latin-1, one character an octet),
so ``\d``, ``\w`` and ``\s`` are not used: they know digits and blanks that HTTP does not.
Chunk lines are matched as bytes. Every expression is linear: no two of its repetitions can match
the same character next to each other.
"""

import re

# token = 1*tchar                                                      RFC 9110 section 5.6.2
# tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." /
#         "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
TCHAR = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
is_token = re.compile(rf"[{TCHAR}]+").fullmatch

# field-value = *field-content, of VCHAR, obs-text, SP and HTAB         RFC 9110 section 5.5
# The inverse: what may not stand in a field value. CR, LF and NUL must be refused (or replaced);
# the other controls are invalid, and nobody sends them in good faith.
control_in_field = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search

# request-line = method SP request-target SP HTTP-version              RFC 9112 section 3
# origin-form  = absolute-path [ "?" query ]                           RFC 9112 section 3.2.1
# HTTP-version = "HTTP/" DIGIT "." DIGIT                               RFC 9112 section 2.3
#
# CONNECT is left out: its target has another form (RFC 9112 section 3.2.3).
#
# Deviation: RFC 3986 also forbids [ ] { } | \ ^ ` in a path or a query. Every browser sends some
# of them raw in a query ("?ids[]=1&range=a|b"; WHATWG URL, "query percent-encode set"), so they
# pass. What no browser sends raw is refused: controls, blanks, octets above 0x7e, and " < > #.
# A "#" is a fragment: a proxy that cuts it there and a server that does not see two targets.
PATH_CHAR = r"!$-;=@-~"
QUERY_CHAR = r"!$-;=?-~"
origin_request_line = re.compile(
    rf"(?!CONNECT )([{TCHAR}]+) ((/[{PATH_CHAR}]*)(?:\?([{QUERY_CHAR}]*))?) HTTP/1\.([0-9])"
).fullmatch
http_version = re.compile(r"HTTP/([0-9])\.([0-9])").fullmatch
origin_form = re.compile(rf"(/[{PATH_CHAR}]*)(?:\?([{QUERY_CHAR}]*))?").fullmatch

# absolute-form = absolute-URI                                         RFC 9112 section 3.2.2
# http-URI      = "http" "://" authority path-abempty [ "?" query ]    RFC 9110 section 4.2.1
absolute_form = re.compile(
    rf"([A-Za-z]+)://([^/?]*)(/[{PATH_CHAR}]*)?(?:\?([{QUERY_CHAR}]*))?"
).fullmatch

# Host     = uri-host [ ":" port ]                                     RFC 9110 section 7.2
# uri-host = IP-literal / IPv4address / reg-name                       RFC 3986 section 3.2.2
# reg-name = *( unreserved / pct-encoded / sub-delims )
# The inside of the brackets is only a character set here; see head.check_host.
_HOST = r"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)"
host = re.compile(rf"{_HOST}(?::([0-9]*))?").fullmatch

# Content-Length = 1*DIGIT                                             RFC 9110 section 8.6
is_digits = re.compile(r"[0-9]+").fullmatch

# chunk-size = 1*HEXDIG                                                RFC 9112 section 7.1
# chunk-ext  = *( BWS ";" BWS chunk-ext-name
#              [ BWS "=" BWS chunk-ext-val ] )                         RFC 9112 section 7.1.1
# chunk-ext-val = token / quoted-string
# Deviation: at most 16 digits, so that a size is bounded before it is a number.
_BTCHAR = TCHAR.encode()
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK_EXT = (
    rb"[ \t]*;[ \t]*["
    + _BTCHAR
    + rb"]+(?:[ \t]*=[ \t]*(?:["
    + _BTCHAR
    + rb"]+|"
    + _QUOTED
    + rb"))?"
)
chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _CHUNK_EXT + rb")*)").fullmatch

# status-line   = HTTP-version SP status-code SP [ reason-phrase ]     RFC 9112 section 4
# reason-phrase = 1*( HTAB / SP / VCHAR / obs-text )
status = re.compile(r"([2-9][0-9]{2}) ([\t -~\x80-\xff]*)").fullmatch
