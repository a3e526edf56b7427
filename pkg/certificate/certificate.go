// Package certificate is a certificate authority of one's own that is replaced without a gap. Prefixes do the same for a
// secret segment in the paths at which the API server calls the webhook.
//
//	Current A          A signs and is trusted
//	Current A, Next B  in the last third of A's lifetime: both are trusted, A still signs
//	Current B          once B has been trusted everywhere for long enough: B signs, A is trusted until it expires
//
// A Store is what there is at one moment: the authorities, all that is trusted, and the Prefixes. Step returns the Store
// as it should be now. Authority.Issue signs a serving certificate, Bundle is what the API server trusts, and Data and
// Parse write and read the Store as the data of a Secret.
//
// The package knows neither clusters nor clocks: pkg/controller/certificates keeps the Secret and the webhook
// configurations in line with it.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// The keys of a Store's data.
const (
	keyCertificate     = "tls.crt"
	keyKey             = "tls.key"
	keyNextCertificate = "next.crt"
	keyNextKey         = "next.key"
	keyBundle          = "bundle.crt"
)

// backdated is for clocks that are behind the one that a certificate is made by.
const backdated = 10 * time.Minute

// Authority signs serving certificates.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority returns an authority that lasts for a lifetime from now.
func NewAuthority(now time.Time, lifetime time.Duration) (*Authority, error) {
	key, template, err := prepare(now, now.Add(lifetime))
	if err != nil {
		return nil, err
	}
	// Two authorities of one name would be tried one after the other, and verified with the wrong key by some.
	template.Subject = pkix.Name{CommonName: fmt.Sprintf("portcullis-ca-%x", template.SerialNumber)}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	return &Authority{Certificate: certificate, key: key}, nil
}

// Issue returns a serving certificate for names, which are DNS names or IP addresses. It lasts for a lifetime from now,
// but not longer than the authority.
func (a *Authority) Issue(now time.Time, lifetime time.Duration, names ...string) (*tls.Certificate, error) {
	until := now.Add(lifetime)
	if until.After(a.Certificate.NotAfter) {
		until = a.Certificate.NotAfter
	}
	key, template, err := prepare(now, until)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	template.Subject = pkix.Name{CommonName: "portcullis"}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("making a serving certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making a serving certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func prepare(now, until time.Time) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, nil, fmt.Errorf("making a serial number: %w", err)
	}
	return key, &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-backdated), NotAfter: until}, nil
}

// Store is what is kept of the authorities, and of the paths.
type Store struct {
	Current  *Authority          // signs
	Next     *Authority          // will; nil until Current is old
	Trusted  []*x509.Certificate // those above, and former ones that have not expired
	Prefixes Prefixes
}

// NewStore returns a store with a new authority.
func NewStore(now time.Time, lifetime time.Duration) (*Store, error) {
	a, err := NewAuthority(now, lifetime)
	if err != nil {
		return nil, err
	}
	return &Store{Current: a, Trusted: []*x509.Certificate{a.Certificate}, Prefixes: Prefixes{Current: Plain}}, nil
}

// Settle is how long a new authority is trusted everywhere before it signs: enough for every API server to have seen it.
func Settle(lifetime time.Duration) time.Duration { return min(lifetime/20, time.Minute) }

// Step returns the store as it should be now; the store itself if nothing is to be done. Lifetime is that of a new
// authority, of which the successor is made in the last third. It signs once it has been trusted by everybody since a
// time that is Settle ago; trusted is zero as long as it is not. An authority that has expired, which happens where
// nothing ran for long, is replaced at once.
func (s *Store) Step(now, trusted time.Time, lifetime time.Duration) (*Store, error) {
	next := &Store{Current: s.Current, Next: s.Next, Trusted: slices.Clone(s.Trusted), Prefixes: s.Prefixes}
	settled := !trusted.IsZero() && now.Sub(trusted) >= Settle(lifetime)
	switch expired := !now.Before(s.Current.Certificate.NotAfter); {
	case s.Next != nil && (settled || expired) && now.Before(s.Next.Certificate.NotAfter):
		next.Current, next.Next = s.Next, nil
	case expired || s.Next == nil && s.Current.Certificate.NotAfter.Sub(now) < lifetime/3:
		a, err := NewAuthority(now, lifetime)
		if err != nil {
			return nil, err
		}
		next.Trusted = append(next.Trusted, a.Certificate)
		if expired {
			next.Current, next.Next = a, nil
		} else {
			next.Next = a
		}
	}
	next.Trusted = slices.DeleteFunc(next.Trusted, func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) })
	if next.Current == s.Current && next.Next == s.Next && len(next.Trusted) == len(s.Trusted) {
		return s, nil
	}
	return next, nil
}

// Bundle is all that is trusted, PEM.
func (s *Store) Bundle() []byte {
	var bundle []byte
	for _, c := range s.Trusted {
		bundle = append(bundle, encode("CERTIFICATE", c.Raw)...)
	}
	return bundle
}

// Data returns the store as the data of a Secret.
func (s *Store) Data() (map[string][]byte, error) {
	data := map[string][]byte{keyBundle: s.Bundle()}
	for _, part := range []struct {
		authority       *Authority
		certificate, of string
	}{{s.Current, keyCertificate, keyKey}, {s.Next, keyNextCertificate, keyNextKey}} {
		if part.authority == nil {
			continue
		}
		key, err := x509.MarshalPKCS8PrivateKey(part.authority.key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.of, err)
		}
		data[part.certificate] = encode("CERTIFICATE", part.authority.Certificate.Raw)
		data[part.of] = encode("PRIVATE KEY", key)
	}
	s.Prefixes.write(data)
	return data, nil
}

// Parse reads the data of a Secret. The error says which key of it is not what Data writes.
func Parse(data map[string][]byte) (*Store, error) {
	var s Store
	var err error
	if s.Current, err = parseAuthority(data, keyCertificate, keyKey); err != nil {
		return nil, err
	}
	if len(data[keyNextCertificate]) > 0 || len(data[keyNextKey]) > 0 {
		if s.Next, err = parseAuthority(data, keyNextCertificate, keyNextKey); err != nil {
			return nil, err
		}
	}
	if s.Trusted, err = parseBundle(data[keyBundle]); err != nil {
		return nil, fmt.Errorf("%s: %w", keyBundle, err)
	}
	for _, a := range []*Authority{s.Current, s.Next} {
		if a != nil && !slices.ContainsFunc(s.Trusted, a.Certificate.Equal) {
			return nil, fmt.Errorf("%s: lacks an authority that signs", keyBundle)
		}
	}
	if s.Prefixes, err = parsePrefixes(data); err != nil {
		return nil, err
	}
	return &s, nil
}

func parseAuthority(data map[string][]byte, certificate, key string) (*Authority, error) {
	pair, err := tls.X509KeyPair(data[certificate], data[key]) // and it looks whether the two belong together
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", certificate, key, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || pair.Leaf == nil || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s: no certificate authority", certificate)
	}
	return &Authority{Certificate: pair.Leaf, key: signer}, nil
}

func parseBundle(bundle []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := bundle; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("not PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
