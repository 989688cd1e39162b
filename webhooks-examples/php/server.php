<?php
// An endpoint for vmq_webhooks with PHP alone; what it answers: ../README.md
declare(strict_types=1);

const OK = ['result' => 'ok'];

function refused(string $error): array
{
    return ['result' => ['error' => $error]];
}

function isPrivate(string $topic): bool
{
    return explode('/', $topic)[0] === 'private';
}

function register(array $call): array
{
    $isKnown = $call['username'] === 'alice' && $call['password'] === 'secret';
    return $isKnown ? OK : refused('invalid_credentials');
}

function publish(array $call): array
{
    $topic = $call['topic'];
    if (isPrivate($topic)) return refused('not_authorized');
    if (!str_starts_with($topic, 'old/')) return OK;
    return ['result' => 'ok', 'modifiers' => ['topic' => 'new/' . substr($topic, 4)]];
}

// Answered in the order of the request. Refusals: 128 for MQTT 3.1.1, a reason code for MQTT 5.
function filters(array $topics, int $refusal): array
{
    return array_map(
        fn ($one) => isPrivate($one['topic']) ? ['topic' => $one['topic'], 'qos' => $refusal] : $one,
        $topics,
    );
}

function isSigned(string $secret, string $header, string $hook, string $body): bool
{
    if (!preg_match('/^t=(\d+),v1=([0-9a-f]{64})$/D', $header, $found)) return false;
    [, $time, $given] = $found;
    if (abs(time() - (int) $time) > 300) return false;
    return hash_equals(hash_hmac('sha256', "$time.$hook.$body", $secret), $given);
}

$hook = $_SERVER['HTTP_VERNEMQ_HOOK'] ?? '';
$body = file_get_contents('php://input');
$secret = getenv('WEBHOOK_SECRET') ?: '';
header('content-type: application/json');
if ($secret !== '' && !isSigned($secret, $_SERVER['HTTP_NAUTILUS_SIGNATURE'] ?? '', $hook, $body)) {
    http_response_code(401);
    exit('{}');
}

$call = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
$answer = match ($hook) {
    'auth_on_register', 'auth_on_register_m5' => register($call),
    'auth_on_publish', 'auth_on_publish_m5' => publish($call),
    'auth_on_subscribe' => ['result' => 'ok', 'topics' => filters($call['topics'], 128)],
    'auth_on_subscribe_m5' => ['result' => 'ok', 'modifiers' => ['topics' => filters($call['topics'], 135)]],
    default => null,
};
if ($answer === null) {
    file_put_contents('php://stdout', "$hook $body\n");
    exit('{}');
}
if ($answer === OK && str_starts_with($hook, 'auth_on_register')) header('cache-control: max-age=60');
echo json_encode($answer, JSON_THROW_ON_ERROR);
