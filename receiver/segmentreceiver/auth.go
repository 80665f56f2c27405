// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Segment signs with HMAC-SHA1
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
)

// writeKeys are the write keys that may send. Without any, every key may.
type writeKeys struct {
	// hashes are the keys' SHA-256, so that all comparisons take the same time, whatever the keys' lengths.
	hashes    [][sha256.Size]byte
	resources [][]resourceAttribute
}

// resourceAttribute is one attribute of the resource of what is sent with a key.
type resourceAttribute struct {
	name, value string
}

func newWriteKeys(configs []WriteKeyConfig) writeKeys {
	var k writeKeys
	for _, c := range configs {
		var resource []resourceAttribute
		for name, value := range c.ResourceAttributes {
			resource = append(resource, resourceAttribute{name, value})
		}
		slices.SortFunc(resource, func(a, b resourceAttribute) int { return strings.Compare(a.name, b.name) })
		k.hashes = append(k.hashes, sha256.Sum256([]byte(c.Key)))
		k.resources = append(k.resources, resource)
	}
	return k
}

// acceptsAll says whether every key may send, and requests without one.
func (k *writeKeys) acceptsAll() bool { return len(k.hashes) == 0 }

// find says whether key may send, and what goes onto the resource of what it sends.
func (k *writeKeys) find(key []byte) (resource []resourceAttribute, ok bool) {
	if k.acceptsAll() {
		return nil, true
	}
	hash := sha256.Sum256(key)
	found := -1
	for i := range k.hashes { // to the end, wherever the key is found
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], k.hashes[i][:]), i, found)
	}
	if found < 0 {
		return nil, false
	}
	return k.resources[found], true
}

// checkHeader refuses a request whose basic auth names an unknown write key, before its body is read.
func (r *segmentReceiver) checkHeader(q *request, req *http.Request) error {
	if q.route.kind == routeWebhook {
		return nil
	}
	if user, _, _ := req.BasicAuth(); user != "" {
		q.sender = []byte(user)
		if _, ok := r.keys.find(q.sender); !ok {
			return r.unauthorized(q, "the write key is unknown")
		}
	}
	return nil
}

// checkSender says whether the sender of what was decoded may send it, and fills in who that is.
func (r *segmentReceiver) checkSender(q *request, req *http.Request) error {
	if q.route.kind == routeWebhook {
		return r.checkSignature(q, req)
	}
	if len(q.sender) == 0 {
		q.sender = q.decoder.key
	}
	if len(q.sender) == 0 {
		q.sender = q.decoder.messageKey
	}
	if len(q.sender) == 0 && q.route.kind == routePixel {
		q.sender = []byte(req.URL.Query().Get("writeKey"))
	}
	resource, ok := r.keys.find(q.sender)
	switch {
	case !ok && len(q.sender) == 0:
		return r.unauthorized(q, "the write key is missing: send it as basic auth user name or as writeKey in the body")
	case !ok:
		return r.unauthorized(q, "the write key is unknown")
	}
	q.resource = resource
	return nil
}

// checkSignature checks a webhook's signature. Segment's webhooks carry no write key, the signature is what counts.
// Of an array it covers the first message.
func (r *segmentReceiver) checkSignature(q *request, req *http.Request) error {
	secret, signed := string(r.config.Webhook.Get().SharedSecret), q.buf
	if q.decoder.shape == shapeArray {
		signed = q.decoder.first
	}
	if secret != "" && !validSignature(secret, req.Header.Get("X-Signature"), signed) {
		return r.unauthorized(q, "X-Signature does not fit the body and the shared secret")
	}
	return nil
}

func (r *segmentReceiver) unauthorized(q *request, message string) error {
	r.warn(troubleKey, q, "refused a request: "+message)
	return &refusal{http.StatusUnauthorized, "unauthorized", message}
}

// validSignature says whether signature, in hexadecimal digits, is the HMAC-SHA1 of signed under secret.
// Source: Segment's Webhooks destination, "Authenticate webhooks".
func validSignature(secret, signature string, signed []byte) bool {
	got, err := hex.DecodeString(signature)
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write(signed)
	return hmac.Equal(got, mac.Sum(nil))
}
