package pin

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// untypable says which byte of text nobody can type as part of a PIN, which is UTF-8
// (PKCS#11 v3.0, C_Login: CK_UTF8CHAR). It returns "" if all of it can be typed. Bytes
// count from 1. It does not show a byte that may be part of a PIN in another encoding.
func untypable(text []byte) string {
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return fmt.Sprintf("is UTF-16: bytes 1 and 2 are its byte order mark (0x%02x 0x%02x)", text[0], text[1])
	case bytes.HasPrefix(text, []byte("\ufeff")):
		return "begins with a byte order mark, as some editors write it: bytes 1 to 3 (0xef 0xbb 0xbf)"
	}
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		switch {
		case r == utf8.RuneError && n == 1:
			return fmt.Sprintf("is not UTF-8: byte %d cannot be read as such", at+1)
		case r < utf8.RuneSelf && unicode.IsControl(r):
			return fmt.Sprintf("holds what nobody can type: byte %d is %s (0x%02x)", at+1, control(byte(r)), r)
		case !typable(r):
			return fmt.Sprintf("holds what nobody can type: byte %d begins the character %U", at+1, r)
		}
		at += n
	}
	return ""
}

func typable(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d' // keyboards have them, for Persian
	switch r {
	case nonJoiner, joiner:
		return true
	case utf8.RuneError: // a converter wrote it in place of another character
		return false
	}
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func control(b byte) string {
	switch b {
	case 0:
		return "a NUL, as in UTF-16"
	case '\t':
		return "a tab"
	case '\n':
		return "a newline"
	case '\r':
		return "a carriage return"
	}
	return "a control character"
}

// Hint says what may be wrong with a PIN that a token refused: a space at one end,
// which nobody sees. It returns "" if there is none.
func Hint(pin []byte) string {
	first, _ := utf8.DecodeRune(pin)
	last, n := utf8.DecodeLastRune(pin)
	switch {
	case unicode.IsSpace(last):
		return fmt.Sprintf("byte %d of it, the last, is a space: does that belong to the PIN?", len(pin)-n+1)
	case unicode.IsSpace(first):
		return "byte 1 of it is a space: does that belong to the PIN?"
	}
	return ""
}
