// An endpoint for vmq_webhooks with Go's standard library; what it answers: ../README.md
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type object map[string]any

// What the hooks below look at; numbers and options of filters pass through as they came.
type call struct {
	Username *string  `json:"username"`
	Password *string  `json:"password"`
	Topic    string   `json:"topic"`
	Topics   []object `json:"topics"`
}

var (
	secret    = []byte(os.Getenv("WEBHOOK_SECRET"))
	signature = regexp.MustCompile(`^t=(\d{1,12}),v1=([0-9a-f]{64})$`)
	ok        = object{"result": "ok"}
)

func refused(reason string) object { return object{"result": object{"error": reason}} }

func isPrivate(topic any) bool {
	text, _ := topic.(string)
	return strings.Split(text, "/")[0] == "private"
}

func register(c call) object {
	if c.Username == nil || c.Password == nil || *c.Username != "alice" || *c.Password != "secret" {
		return refused("invalid_credentials")
	}
	return ok
}

func publish(c call) object {
	if isPrivate(c.Topic) {
		return refused("not_authorized")
	}
	if rest, isOld := strings.CutPrefix(c.Topic, "old/"); isOld {
		return object{"result": "ok", "modifiers": object{"topic": "new/" + rest}}
	}
	return ok
}

// Answered in the order of the request. Refusals: 128 for MQTT 3.1.1, a reason code for MQTT 5.
func filters(topics []object, refusal int) []object {
	for i, one := range topics {
		if isPrivate(one["topic"]) {
			topics[i] = object{"topic": one["topic"], "qos": refusal}
		}
	}
	return topics
}

var hooks = map[string]func(call) object{
	"auth_on_register":    register,
	"auth_on_register_m5": register,
	"auth_on_publish":     publish,
	"auth_on_publish_m5":  publish,
	"auth_on_subscribe": func(c call) object {
		return object{"result": "ok", "topics": filters(c.Topics, 128)}
	},
	"auth_on_subscribe_m5": func(c call) object {
		return object{"result": "ok", "modifiers": object{"topics": filters(c.Topics, 135)}}
	},
}

func isSigned(header, hook string, body []byte) bool {
	found := signature.FindStringSubmatch(header)
	if found == nil {
		return false
	}
	seconds, _ := strconv.ParseInt(found[1], 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); age.Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", found[1], hook, body)
	given, _ := hex.DecodeString(found[2])
	return hmac.Equal(given, mac.Sum(nil))
}

func handle(w http.ResponseWriter, r *http.Request) {
	hook := r.Header.Get("vernemq-hook")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if len(secret) > 0 && !isSigned(r.Header.Get("nautilus-signature"), hook, body) {
		http.Error(w, "{}", http.StatusUnauthorized)
		return
	}
	w.Header().Set("content-type", "application/json")
	decide, isAsked := hooks[hook]
	if !isAsked {
		fmt.Println(hook, string(body))
		io.WriteString(w, "{}")
		return
	}
	var c call
	if err := json.Unmarshal(body, &c); err != nil {
		http.Error(w, "{}", http.StatusBadRequest)
		return
	}
	answer := decide(c)
	if answer["result"] == "ok" && strings.HasPrefix(hook, "auth_on_register") {
		w.Header().Set("cache-control", "max-age=60")
	}
	json.NewEncoder(w).Encode(answer)
}

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(handle)))
}
