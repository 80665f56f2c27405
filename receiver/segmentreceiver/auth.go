// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Segment signs with HMAC-SHA1
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
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

// any says whether every key may send.
func (k *writeKeys) any() bool { return len(k.hashes) == 0 }

// find says whether key may send, and what goes onto the resource of what it sends.
func (k *writeKeys) find(key []byte) (resource []resourceAttribute, ok bool) {
	if k.any() {
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
