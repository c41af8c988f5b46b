package pki

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// maxToken bounds what is looked at. A token of ours has about a hundred bytes.
const maxToken = 4 << 10

// jwtHeader is the only header that is made or accepted as it stands; others must say the same (spec 02 §5.3).
const jwtHeader = `{"alg":"HS256","typ":"JWT"}`

// TokenClaims is what a valid bootstrap token says.
type TokenClaims struct {
	Expires time.Time
	// Node is the only node that may use the token; empty means any.
	Node string
}

type jwtClaims struct {
	Expires   *float64 `json:"exp"`
	NotBefore *float64 `json:"nbf,omitempty"`
	Node      string   `json:"node,omitempty"`
}

// bearerToken makes the part of a token that an edge sends.
func (i *issuer) bearerToken(claims TokenClaims) (string, error) {
	// A number of its own type, because exp must be written as an integer.
	payload, err := json.Marshal(struct {
		Expires int64  `json:"exp"`
		Node    string `json:"node,omitempty"`
	}{claims.Expires.Unix(), claims.Node})
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(jwtHeader)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(i.mac(signed)), nil
}

// token makes what keadm join takes: the hash of the CA that the edge must find, and what the edge sends.
func (i *issuer) token(claims TokenClaims) (string, error) {
	bearer, err := i.bearerToken(claims)
	if err != nil {
		return "", err
	}
	return i.hash + "." + bearer, nil
}

func (i *issuer) mac(signed string) []byte {
	h := hmac.New(sha256.New, i.key.der)
	h.Write([]byte(signed))
	return h.Sum(nil)
}

// verifyBearer checks the signature before it decodes anything, so only bytes that a cloudcore made are parsed.
func (i *issuer) verifyBearer(bearer string, now time.Time) (TokenClaims, error) {
	if len(bearer) > maxToken {
		return TokenClaims{}, refuse(ReasonTokenMalformed, "token of %d bytes", len(bearer))
	}
	header, rest, _ := strings.Cut(bearer, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return TokenClaims{}, refuse(ReasonTokenMalformed, "token does not have three parts")
	}
	encoding := base64.RawURLEncoding.Strict()
	sum, err := encoding.DecodeString(signature)
	if err != nil {
		return TokenClaims{}, refuse(ReasonTokenMalformed, "token signature is not base64url")
	}
	if !hmac.Equal(sum, i.mac(header+"."+payload)) {
		return TokenClaims{}, refuse(ReasonTokenSignature, "token is not signed by this CA")
	}
	if err := checkJWTHeader(encoding, header); err != nil {
		return TokenClaims{}, err
	}
	var claims jwtClaims
	if raw, err := encoding.DecodeString(payload); err != nil || json.Unmarshal(raw, &claims) != nil || claims.Expires == nil {
		return TokenClaims{}, refuse(ReasonTokenMalformed, "token has no usable claims")
	}
	return claims.check(now)
}

func checkJWTHeader(encoding *base64.Encoding, header string) error {
	var fields struct {
		Algorithm string          `json:"alg"`
		Critical  json.RawMessage `json:"crit"`
	}
	raw, err := encoding.DecodeString(header)
	if err != nil || json.Unmarshal(raw, &fields) != nil {
		return refuse(ReasonTokenMalformed, "token header is not JSON")
	}
	if fields.Algorithm != "HS256" || fields.Critical != nil {
		return refuse(ReasonTokenMalformed, "token header asks for something other than HS256")
	}
	return nil
}

func (c jwtClaims) check(now time.Time) (TokenClaims, error) {
	const lastSecond = 253402300799 // year 9999; beyond it the conversion means nothing
	expires := *c.Expires
	if !(expires > 0 && expires <= lastSecond) {
		return TokenClaims{}, refuse(ReasonTokenMalformed, "token has no usable end")
	}
	claims := TokenClaims{Expires: time.Unix(int64(expires), 0), Node: c.Node}
	if !now.Before(claims.Expires) {
		return TokenClaims{}, refuse(ReasonTokenExpired, "token expired at %s", claims.Expires.UTC().Format(time.RFC3339))
	}
	if c.NotBefore != nil && float64(now.Unix()) < *c.NotBefore {
		return TokenClaims{}, refuse(ReasonTokenExpired, "token is not valid yet")
	}
	return claims, nil
}

// verifyToken checks a whole token, as it is stored and printed by keadm.
func (i *issuer) verifyToken(token string, now time.Time) (TokenClaims, error) {
	hash, bearer, _ := strings.Cut(token, ".")
	if hash != i.hash {
		return TokenClaims{}, refuse(ReasonTokenSignature, "token was made for another CA")
	}
	return i.verifyBearer(bearer, now)
}

// VerifyToken checks what an edge sends as bearer token, the parts after the CA hash.
func (a *Authority) VerifyToken(bearer string) (TokenClaims, error) {
	ca := a.ca.Load()
	if ca == nil {
		return TokenClaims{}, ErrNotLoaded
	}
	return ca.verifyBearer(bearer, time.Now())
}

// NodeToken makes a token that only the named node can use, for operators who hand out one token a node. Verifiers
// that know nothing of the restriction, such as the reference, take it for a token of any node.
func (a *Authority) NodeToken(node string, lifetime time.Duration) (string, error) {
	ca := a.ca.Load()
	switch {
	case ca == nil:
		return "", ErrNotLoaded
	case lifetime <= 0:
		return "", fmt.Errorf("make token for node %s: lifetime %s is not positive", node, lifetime)
	}
	if err := checkNodeName(node); err != nil {
		return "", err
	}
	return ca.token(TokenClaims{Expires: time.Now().Add(lifetime), Node: node})
}

// ensureToken leaves a token in the Secret that verifies, is good for every node, and has at least half of its life
// left. It returns when that token expires.
func (a *Authority) ensureToken(ctx context.Context, ca *issuer) (time.Time, error) {
	return settle(ctx, a.secrets, TokenSecret, func(data map[string][]byte) (time.Time, map[string][]byte, error) {
		now := time.Now()
		stored, err := ca.verifyToken(string(data[tokenKey]), now)
		if err == nil && stored.Node == "" && stored.Expires.Sub(now) > a.cfg.TokenRefresh {
			return stored.Expires, nil, nil
		}
		expires := now.Add(2 * a.cfg.TokenRefresh)
		token, err := ca.token(TokenClaims{Expires: expires})
		if err != nil {
			return time.Time{}, nil, err
		}
		klog.FromContext(ctx).V(2).Info("Storing a new bootstrap token", "namespace", a.cfg.Namespace, "secret", TokenSecret, "notAfter", expires)
		return expires, map[string][]byte{tokenKey: []byte(token)}, nil
	})
}
