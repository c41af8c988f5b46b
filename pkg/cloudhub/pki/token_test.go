package pki

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestVerifyToken(t *testing.T) {
	stored := referenceSecrets(t, "127.0.0.1")
	a := loaded(t, testConfig(), newAPI(t, stored[0], stored[1]))
	key := stored[0].Data["cakeydata"]
	const hs256 = `{"alg":"HS256","typ":"JWT"}`
	in := func(d time.Duration) string { return fmt.Sprintf(`{"exp":%d}`, time.Now().Add(d).Unix()) }
	good := signJWT(key, hs256, in(time.Hour))
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(in(time.Hour))) + "."

	tests := []struct {
		name, token string
		want        Reason // empty: valid
	}{
		{"as the reference makes it", good, ""},
		{"claims unknown to us", signJWT(key, hs256, fmt.Sprintf(`{"exp":%d,"sub":"x"}`, time.Now().Add(time.Hour).Unix())), ""},
		{"expired", signJWT(key, hs256, in(-time.Second)), ReasonTokenExpired},
		{"expires now", signJWT(key, hs256, in(0)), ReasonTokenExpired},
		{"not valid yet", signJWT(key, hs256, fmt.Sprintf(`{"exp":%d,"nbf":%d}`, time.Now().Add(2*time.Hour).Unix(), time.Now().Add(time.Hour).Unix())), ReasonTokenExpired},
		{"no end", signJWT(key, hs256, `{}`), ReasonTokenMalformed},
		{"end is text", signJWT(key, hs256, `{"exp":"tomorrow"}`), ReasonTokenMalformed},
		{"end beyond time", signJWT(key, hs256, `{"exp":1e300}`), ReasonTokenMalformed},
		{"negative end", signJWT(key, hs256, `{"exp":-5}`), ReasonTokenMalformed},
		{"claims are not an object", signJWT(key, hs256, `[]`), ReasonTokenMalformed},
		{"another algorithm named", signJWT(key, `{"alg":"HS512"}`, in(time.Hour)), ReasonTokenMalformed},
		{"critical extension", signJWT(key, `{"alg":"HS256","crit":["x"]}`, in(time.Hour)), ReasonTokenMalformed},
		{"header is not JSON", signJWT(key, `hello`, in(time.Hour)), ReasonTokenMalformed},
		{"another CA's key", signJWT([]byte("other"), hs256, in(time.Hour)), ReasonTokenSignature},
		{"no signature", unsigned, ReasonTokenSignature},
		{"changed", strings.Replace(good, ".", ".A", 1), ReasonTokenSignature},
		{"padded signature", good + "=", ReasonTokenMalformed},
		{"whole token with the CA hash", a.ca.Load().hash + "." + good, ReasonTokenMalformed},
		{"empty", "", ReasonTokenMalformed},
		{"two parts", "a.b", ReasonTokenMalformed},
		{"huge", good + strings.Repeat("A", maxToken), ReasonTokenMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := a.VerifyToken(tt.token)
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want it valid", err)
				}
				return
			}
			wantRefusal(t, err, tt.want)
			if len(tt.token) > 20 && strings.Contains(err.Error(), tt.token) {
				t.Errorf("error %q quotes the token", err)
			}
		})
	}
}

func TestNodeToken(t *testing.T) {
	api := newAPI(t)
	a := loaded(t, testConfig(), api)
	token, err := a.NodeToken("edge-1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	hash, bearer, _ := strings.Cut(token, ".")
	if hash != a.ca.Load().hash {
		t.Error("token does not start with the hash of the CA")
	}
	claims, err := a.VerifyToken(bearer)
	if err != nil || claims.Node != "edge-1" || time.Until(claims.Expires).Round(time.Minute) != time.Hour {
		t.Errorf("got %+v, %v, want a token of edge-1 for an hour", claims, err)
	}
	if _, err := a.NodeToken("Not A Name", time.Hour); err == nil {
		t.Error("token for an impossible node name was made")
	}
	if _, err := a.NodeToken("edge-1", 0); err == nil {
		t.Error("token without a life was made")
	}
}

func TestStoredTokenIsKeptOrReplaced(t *testing.T) {
	stored := referenceSecrets(t, "127.0.0.1")
	key := stored[0].Data["cakeydata"]
	hash, _, _ := strings.Cut(string(stored[2].Data["tokendata"]), ".")
	withClaims := func(claims string) string { return hash + "." + signJWT(key, `{"alg":"HS256","typ":"JWT"}`, claims) }
	in := func(d time.Duration) string { return withClaims(fmt.Sprintf(`{"exp":%d}`, time.Now().Add(d).Unix())) }
	tests := []struct {
		name, token string
		kept        bool
	}{
		{"more than half of its life left", in(13 * time.Hour), true},
		{"less than half left", in(11 * time.Hour), false},
		{"expired", in(-time.Hour), false},
		{"of another CA", strings.Replace(in(20*time.Hour), hash, strings.Repeat("0", 64), 1), false},
		{"signature of another CA", hash + "." + signJWT([]byte("x"), `{"alg":"HS256"}`, `{"exp":9999999999}`), false},
		{"for one node only", withClaims(fmt.Sprintf(`{"exp":%d,"node":"edge-1"}`, time.Now().Add(20*time.Hour).Unix())), false},
		{"garbled", "garbled", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t, stored[0], stored[1], secretOf("tokensecret", map[string][]byte{"tokendata": []byte(tt.token)}))
			a := loaded(t, testConfig(), api)
			got := string(getSecret(t, api, "tokensecret").Data["tokendata"])
			if (got == tt.token) != tt.kept {
				t.Errorf("kept: got %v, want %v", got == tt.token, tt.kept)
			}
			if _, err := a.ca.Load().verifyToken(got, time.Now()); err != nil {
				t.Errorf("the token now stored: %v", err)
			}
		})
	}
}
